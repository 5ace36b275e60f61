# shared_object(NAME KIND FOLDER LIBS ...) - a shared object that runs inside programs of other people: it shows what
# FOLDER/exports.map says, and asks nothing of a machine but libc and libcrypto. What Debian has as an archive comes before
# what else would be linked as a shared library, and is taken from there.
function(shared_object name kind folder)
  cmake_parse_arguments(S "" "" "LIBS" ${ARGN})
  find_library(MEMKV_YAML_ARCHIVE libyaml-cpp.a REQUIRED)
  add_library(${name} ${kind} ${PROJECT_SOURCE_DIR}/bindings/inside.cc ${folder}/exports.map)
  target_link_libraries(${name} PRIVATE ${S_LIBS} ${MEMKV_YAML_ARCHIVE})
  target_link_options(${name} PRIVATE -static-libstdc++ -Wl,--as-needed -Wl,--gc-sections -Wl,-z,defs -Wl,-Bsymbolic
                      -Wl,--version-script=${folder}/exports.map)
  set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
                        LINK_DEPENDS ${folder}/exports.map)
endfunction()
