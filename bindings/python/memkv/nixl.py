"""The NIXL plugin that the wheel brings along."""

import pathlib


def plugin_dir(obj: bool = False) -> str:
    """The folder with `libplugin_MEMKV.so`, for the environment variable NIXL_PLUGIN_DIR.

    NIXL then looks there *instead of* into the folder of its own plugins. To keep those, link the file into that
    folder (`.nixl_cu12.mesonpy.libs/plugins` in the same site-packages; docs/nixl.md).

    obj: the folder with the same plugin under the name OBJ, for engines that ask for that name alone (vLLM's obj tier).
    """
    folder = pathlib.Path(__file__).resolve().parent / "plugins"
    return str(folder / "obj" if obj else folder)
