# src/io, format, volume and engine once more, with the switches of base/test_rules.h, for those who take rules out: tests/rules and
# sim. Compiled once for both, and only if one of them is built.
foreach(folder io format volume engine)
  memkv_split_sources(${PROJECT_SOURCE_DIR}/src/${folder} ${folder})
endforeach()
add_library(memkv_switched OBJECT EXCLUDE_FROM_ALL ${io_lib} ${format_lib} ${volume_lib} ${engine_lib})
target_link_libraries(memkv_switched PUBLIC memkv_base)
target_include_directories(memkv_switched PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_definitions(memkv_switched PRIVATE MEMKV_TEST_RULES)
