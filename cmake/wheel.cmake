# What goes into the wheel (pyproject.toml), relative to site-packages. auditwheel adds libcrypto under a name of its own.
if(NOT SKBUILD)
  return()
endif()
install(TARGETS memkv memkv-bench RUNTIME DESTINATION memkv/bin COMPONENT wheel)
# A wheel holds no links: one name a file, and the plugin once more under its other name, in a folder of its own, for
# NIXL takes all plugins of one folder.
set_target_properties(memkv_shared PROPERTIES VERSION 1)
install(TARGETS memkv_shared LIBRARY DESTINATION memkv/lib COMPONENT wheel NAMELINK_SKIP)
install(TARGETS plugin_MEMKV LIBRARY DESTINATION memkv/plugins COMPONENT wheel)
install(PROGRAMS $<TARGET_FILE:plugin_MEMKV> DESTINATION memkv/plugins/obj RENAME libplugin_OBJ.so COMPONENT wheel)
# Who has the wheel alone has the docs, too.
install(DIRECTORY docs/ DESTINATION memkv/docs COMPONENT wheel FILES_MATCHING PATTERN "*.md" PATTERN "*.svg")
foreach(package libcli11-dev libcpp-httplib-dev libfmt-dev libssl-dev libstdc++-12-dev liburing-dev libxxhash-dev
                libyaml-cpp-dev nlohmann-json3-dev)
  install(FILES /usr/share/doc/${package}/copyright DESTINATION memkv/licenses RENAME ${package}.txt COMPONENT wheel)
endforeach()
