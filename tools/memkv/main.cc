#include "tools/memkv/options.h"
#include "tools/output.h"

int main(int argc, char** argv) {
  memkv::tools::begin_output();
  return memkv::tools::end_output("memkv", memkv::cli::run_command_line(argc, argv));
}
