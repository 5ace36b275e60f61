#include "tools/memkv/options.h"

int main(int argc, char** argv) { return memkv::cli::run_command_line(argc, argv); }
