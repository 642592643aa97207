# safepair_library(<room> SOURCES a.cpp ... PUBLIC targets PRIVATE targets)
#   makes safepair_<room> (alias safepair::<room>) from SOURCES and every header under include/, and registers it for
#   install and export. Headers are verified to compile alone (target all_verify_interface_header_sets).
function(safepair_library room)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(target safepair_${room})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(safepair::${room} ALIAS ${target})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/include/*.hpp)
  target_sources(${target} PUBLIC FILE_SET HEADERS
    BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${headers})
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    POSITION_INDEPENDENT_CODE ON
    EXPORT_NAME ${room}
    VERIFY_INTERFACE_HEADER_SETS ${SAFEPAIR_TOP})
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE} $<BUILD_INTERFACE:safepair_warnings>)
  if(SAFEPAIR_INSTALL)
    install(TARGETS ${target} EXPORT safepair_${room}_targets
      ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
    install(EXPORT safepair_${room}_targets NAMESPACE safepair:: FILE safepair_${room}_targets.cmake
      DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/safepair)
  endif()
endfunction()

function(safepair_install_package)
  include(CMakePackageConfigHelpers)
  configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/safepairConfig.cmake.in
    ${PROJECT_BINARY_DIR}/safepairConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/safepair)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/safepairConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/safepairConfig.cmake ${PROJECT_BINARY_DIR}/safepairConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/safepair)
endfunction()
