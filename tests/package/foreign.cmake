# build_foreign(<arguments for its configuration>...): configures PROJECT afresh in WORK/build, builds and runs it.
function(build_foreign)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${PROJECT} -B ${WORK}/build -G ${GENERATOR}
      -DCMAKE_BUILD_TYPE=${BUILD_TYPE}
      -DCMAKE_CXX_COMPILER=${CXX_COMPILER}
      -DCMAKE_CXX_COMPILER_LAUNCHER=${CXX_COMPILER_LAUNCHER}
      -DCMAKE_CXX_FLAGS=${CXX_FLAGS}
      -DCMAKE_EXE_LINKER_FLAGS=${LINKER_FLAGS}
      ${ARGN}
    COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${WORK}/build --target foreign COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${WORK}/build/foreign COMMAND_ERROR_IS_FATAL ANY)
endfunction()
