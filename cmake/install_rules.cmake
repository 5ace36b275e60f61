# What a program outside gets: the static library memkv::client for C++, the shared library memkv::c for C
# (bindings/c), the headers of include/memkv, find_package and pkg-config.
include(CMakePackageConfigHelpers)

set(objects)
foreach(part base wire io transport client)
  if(TARGET memkv_${part})
    get_target_property(type memkv_${part} TYPE)
    if(type STREQUAL STATIC_LIBRARY)
      list(APPEND objects $<TARGET_OBJECTS:memkv_${part}>)
    endif()
  endif()
endforeach()

if(NOT objects)
  return()
endif()
add_library(memkv_bundle STATIC ${objects})
set_target_properties(memkv_bundle PROPERTIES OUTPUT_NAME memkv EXPORT_NAME client LINKER_LANGUAGE CXX)
target_include_directories(memkv_bundle PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                               $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(memkv_bundle PUBLIC cxx_std_20)
target_link_libraries(memkv_bundle PUBLIC fmt::fmt OpenSSL::SSL OpenSSL::Crypto yaml-cpp Threads::Threads
                                          $<BUILD_INTERFACE:uring> $<INSTALL_INTERFACE:-luring> ${CMAKE_DL_LIBS})
add_library(memkv::client ALIAS memkv_bundle)

install(TARGETS memkv_bundle EXPORT memkv-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/memkv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/memkv)
install(EXPORT memkv-targets NAMESPACE memkv:: DESTINATION ${package_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/memkv-config.cmake.in ${PROJECT_BINARY_DIR}/memkv-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/memkv-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/memkv-config.cmake ${PROJECT_BINARY_DIR}/memkv-config-version.cmake
        DESTINATION ${package_dir})
# Relative to the file itself, so that `cmake --install --prefix` may move it.
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH MEMKV_PC_TO_PREFIX /${pkgconfig_dir} /)
string(REGEX REPLACE "/$" "" MEMKV_PC_TO_PREFIX ${MEMKV_PC_TO_PREFIX})
foreach(file memkv.pc memkv-c.pc)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${file}.in ${PROJECT_BINARY_DIR}/${file} @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${file} DESTINATION ${pkgconfig_dir})
endforeach()
