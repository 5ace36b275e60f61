/// libfmt compiled in: Debian has it as a shared library only, and the plugin needs none that NIXL's own does not.

#include <fmt/format-inl.h>
