# What leaves the machine that it was built on asks nothing of another one but glibc 2.34, libgcc_s and libcrypto:
# libstdc++, libfmt, yaml-cpp and liburing are inside. Archives come before what else would be linked as a shared
# library, and are taken from there.
if(NOT MEMKV_SANITIZE)
  find_library(MEMKV_YAML_ARCHIVE libyaml-cpp.a REQUIRED)
  find_library(MEMKV_URING_ARCHIVE liburing.a REQUIRED)
  add_library(memkv_inside OBJECT ${PROJECT_SOURCE_DIR}/bindings/inside.cc)
  target_link_libraries(memkv_inside PRIVATE fmt::fmt)
endif()

function(memkv_make_portable target)
  if(MEMKV_SANITIZE)
    return()
  endif()
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:memkv_inside>)
  target_link_libraries(${target} PRIVATE ${MEMKV_YAML_ARCHIVE} ${MEMKV_URING_ARCHIVE})
  target_link_options(${target} PRIVATE -static-libstdc++ -Wl,--as-needed -Wl,--gc-sections)
endfunction()

# shared_object(NAME KIND FOLDER LIBS ...) - one that runs inside programs of other people: it shows what
# FOLDER/exports.map says.
function(shared_object name kind folder)
  cmake_parse_arguments(S "" "" "LIBS" ${ARGN})
  add_library(${name} ${kind} ${folder}/exports.map)
  target_link_libraries(${name} PRIVATE ${S_LIBS})
  memkv_make_portable(${name})
  target_link_options(${name} PRIVATE -Wl,-z,defs -Wl,-Bsymbolic -Wl,--version-script=${folder}/exports.map)
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
                        LINK_DEPENDS ${folder}/exports.map LINKER_LANGUAGE CXX)
endfunction()
