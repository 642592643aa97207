# Installs the build tree into a folder of its own and builds PROJECT against it.
include(${CMAKE_CURRENT_LIST_DIR}/foreign.cmake)
file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
execute_process(
  COMMAND ${CMAKE_COMMAND} --install ${SAFEPAIR_BINARY} --prefix ${prefix}
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)

# What is installed must not look back at the trees it was made from.
file(GLOB_RECURSE package_files ${prefix}/*.cmake ${prefix}/*.hpp)
if(NOT package_files)
  message(FATAL_ERROR "nothing was installed")
endif()
foreach(file IN LISTS package_files)
  file(READ ${file} content)
  foreach(tree ${SAFEPAIR_SOURCE} ${SAFEPAIR_BINARY})
    string(FIND "${content}" "${tree}/" place)
    if(NOT place EQUAL -1)
      message(FATAL_ERROR "${file} names ${tree}")
    endif()
  endforeach()
endforeach()

build_foreign(-DCMAKE_PREFIX_PATH=${prefix})

# Another minor version is not compatible before 1.0, and a room that does not exist is not found.
foreach(wrong -DWANTED_VERSION=0.2 -DWANTED_ROOM=nonsense)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${PROJECT} -B ${WORK}/wrong -G ${GENERATOR}
      -DCMAKE_CXX_COMPILER=${CXX_COMPILER} -DCMAKE_PREFIX_PATH=${prefix} ${wrong}
    RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    message(FATAL_ERROR "find_package was content with ${wrong}")
  endif()
  file(REMOVE_RECURSE ${WORK}/wrong)
endforeach()
