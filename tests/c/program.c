/* A program in C that has nothing of MemKV but memkv.h and libmemkv.so. It runs every call against the server at
 * argv[1], an empty store, and ends with 1 at the first answer that is wrong. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memkv/memkv.h"

#define CHECK(condition)                                                                        \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, memkv_last_message()); \
      _exit(1);                                                                                 \
    }                                                                                           \
  } while (0)
#define MIB (1u << 20)

static memkv_client* connect_to(const char* address) {
  memkv_options options = {.struct_size = sizeof options, .servers = &address, .server_count = 1};
  memkv_client* client = NULL;
  CHECK(memkv_connect(&options, &client) == MEMKV_OK);
  return client;
}

static void texts(void) {
  CHECK(memkv_abi_version() == MEMKV_ABI_VERSION);
  CHECK(memkv_version()[0] != '\0');
  CHECK(strcmp(memkv_error_name(MEMKV_MISS), "miss") == 0);
  CHECK(strcmp(memkv_error_name(15), "unnamed") == 0);
  CHECK(strstr(memkv_error_text(MEMKV_UNAUTHORIZED), "MEMKV_AUTH_KEY") != NULL);
}

static void settings_come_from_the_environment(const char* address) {
  memkv_client* client = NULL;
  setenv("MEMKV_AUTH_KEY", "abc", 1);
  CHECK(memkv_connect(NULL, &client) == MEMKV_INVALID && client == NULL);
  CHECK(strstr(memkv_last_message(), "64 hex characters") != NULL);
  unsetenv("MEMKV_AUTH_KEY");
  setenv("MEMKV_SERVERS", address, 1);
  CHECK(memkv_connect(NULL, &client) == MEMKV_OK);
  CHECK(memkv_server_count(client) == 1 && memkv_server_of(client, "k", 1) == 0);
  char* name = NULL;
  CHECK(memkv_server_name(client, 0, &name) == MEMKV_OK && strcmp(name, address) == 0);
  memkv_free(name);
  memkv_close(client);
  unsetenv("MEMKV_SERVERS");
}

static void one_op_at_a_time(memkv_client* client) {
  memkv_outcome outcome = {.struct_size = sizeof outcome};
  char block[5000], got[5000];
  memset(block, 'a', sizeof block);
  CHECK(memkv_get(client, "one", 3, got, sizeof got, 0, 0, &outcome) == MEMKV_MISS);
  CHECK(memkv_put(client, "one", 3, block, sizeof block, 0, &outcome) == MEMKV_OK && outcome.bytes == sizeof block);
  CHECK(memkv_put_if_absent(client, "one", 3, "b", 1, 0, NULL) == MEMKV_EXISTS);
  CHECK(memkv_write(client, "one", 3, "ccc", 3, 4998, 0, NULL) == MEMKV_OK);
  CHECK(memkv_get(client, "one", 3, got, 10, 4996, 0, &outcome) == MEMKV_OK);
  CHECK(outcome.bytes == 5 && outcome.block_bytes == 5001 && memcmp(got, "aaccc", 5) == 0);
  CHECK(memkv_exists(client, "one", 3, 0, &outcome) == MEMKV_OK && outcome.exists == 1);
  CHECK(memkv_touch(client, "one", 3, 0, NULL) == MEMKV_OK);
  CHECK(memkv_stat(client, "one", 3, 0, &outcome) == MEMKV_OK && outcome.generation != 0);
  CHECK(memkv_prefetch(client, "one", 3, 0, &outcome) == MEMKV_OK && outcome.exists == 1 && outcome.bytes == 0);
  CHECK(memkv_prefetch(client, "nobody", 6, 0, &outcome) == MEMKV_MISS && outcome.exists == 0);
  CHECK(memkv_remove(client, "one", 3, 0, NULL) == MEMKV_OK);
  CHECK(memkv_exists(client, "one", 3, 1000000000, &outcome) == MEMKV_MISS && outcome.exists == 0);
  CHECK(memkv_put(client, "", 0, block, 1, 0, NULL) == MEMKV_INVALID);
}

/* Two puts from three pieces, then a get into two, a get of a range, of another generation, and a question. */
static void a_batch_of_columns(memkv_client* client) {
  char first[] = "first", second[] = "second";
  const void* keys[] = {"x", "y", "x", "y", "x", "none"};
  const size_t key_sizes[] = {1, 1, 1, 1, 1, 4};
  void* sources[] = {first, second, second + 3};
  const size_t source_sizes[] = {5, 3, 3};
  const uint32_t source_counts[] = {1, 2};
  uint64_t generations[2];
  int32_t statuses[4];
  memkv_results results = {.struct_size = sizeof results, .statuses = statuses, .generations = generations};
  memkv_batch batch = {.struct_size = sizeof batch,
                       .op_count = 2,
                       .keys = keys,
                       .key_sizes = key_sizes,
                       .piece_count = 3,
                       .pieces = sources,
                       .piece_sizes = source_sizes,
                       .op_piece_counts = source_counts,
                       .kind = MEMKV_OP_PUT};
  CHECK(memkv_run(client, &batch, &results) == MEMKV_OK);
  CHECK(statuses[0] == MEMKV_OK && statuses[1] == MEMKV_OK && generations[1] != 0);

  char a[2], b[3], c[8], d[8];
  void* places[] = {a, b, c, d};
  const size_t place_sizes[] = {sizeof a, sizeof b, sizeof c, sizeof d};
  const uint32_t place_counts[] = {2, 1, 1, 0};
  const uint8_t kinds[] = {MEMKV_OP_GET, MEMKV_OP_GET, MEMKV_OP_GET, MEMKV_OP_EXISTS};
  const uint8_t flags[] = {0, 0, 0, MEMKV_FLAG_TOUCH};
  const uint64_t offsets[] = {0, 2, 0, 0};
  const uint64_t demanded[] = {generations[0], 0, generations[0] + 1000, 0};
  uint64_t bytes[4], sizes[4];
  uint8_t there[4];
  memkv_results read = {
      .struct_size = sizeof read, .statuses = statuses, .bytes = bytes, .block_bytes = sizes, .exists = there};
  memkv_batch gets = {.struct_size = sizeof gets,
                      .op_count = 4,
                      .keys = keys + 2,
                      .key_sizes = key_sizes + 2,
                      .piece_count = 4,
                      .pieces = places,
                      .piece_sizes = place_sizes,
                      .op_piece_counts = place_counts,
                      .op_kinds = kinds,
                      .op_flags = flags,
                      .offsets = offsets,
                      .generations = demanded};
  CHECK(memkv_run(client, &gets, &read) == MEMKV_OK);
  CHECK(statuses[0] == MEMKV_OK && memcmp(a, "fi", 2) == 0 && memcmp(b, "rst", 3) == 0);
  CHECK(statuses[1] == MEMKV_OK && bytes[1] == 4 && sizes[1] == 6 && memcmp(c, "cond", 4) == 0);
  CHECK(statuses[2] == MEMKV_CHANGED);
  CHECK(statuses[3] == MEMKV_MISS && there[3] == 0);
}

/* Batches that are waited for by their descriptor alone. */
static void events(memkv_client* client) {
  enum { kBatches = 20, kOps = 4 };
  static char blocks[kBatches][kOps][4096];
  memkv_queue* queue = NULL;
  memkv_pending* pending = NULL;
  CHECK(memkv_queue_open(client, &queue) == MEMKV_OK);
  struct pollfd fd = {.fd = memkv_queue_fd(queue), .events = POLLIN};
  CHECK(poll(&fd, 1, 0) == 0 && memkv_queue_next(queue) == NULL);
  for (uint64_t i = 0; i < kBatches; i++) {
    char names[kOps][16];
    const void* keys[kOps];
    size_t key_sizes[kOps], sizes[kOps];
    void* pieces[kOps];
    for (int op = 0; op < kOps; op++) {
      keys[op] = names[op];
      key_sizes[op] = (size_t)snprintf(names[op], sizeof names[op], "event/%d/%d", (int)i, op);
      memset(blocks[i][op], (int)i, sizes[op] = sizeof blocks[i][op]);
      pieces[op] = blocks[i][op];
    }
    memkv_batch batch = {.struct_size = sizeof batch,
                         .op_count = kOps,
                         .keys = keys,
                         .key_sizes = key_sizes,
                         .piece_count = kOps,
                         .pieces = pieces,
                         .piece_sizes = sizes,
                         .kind = MEMKV_OP_PUT};
    CHECK(memkv_submit(client, &batch, queue, i + 100, &pending) == MEMKV_OK);
    CHECK(memkv_pending_op_count(pending) == kOps);
  }
  for (uint64_t seen = 0, done = 0; done < kBatches;) {
    CHECK(poll(&fd, 1, 30000) == 1);
    while ((pending = memkv_queue_next(queue)) != NULL) {
      int32_t statuses[kOps];
      const memkv_results results = {.struct_size = sizeof results, .statuses = statuses};
      const uint64_t bit = UINT64_C(1) << (memkv_pending_tag(pending) - 100);
      CHECK(memkv_wait(pending, 0) == MEMKV_OK);
      CHECK((seen & bit) == 0 && memkv_collect(pending, &results) == MEMKV_OK);
      for (int op = 0; op < kOps; op++) CHECK(statuses[op] == MEMKV_OK);
      seen |= bit;
      done++;
    }
    CHECK(poll(&fd, 1, 0) == 0 || done < kBatches);
  }
  memkv_queue_close(queue);
}

static void servers_and_counters(memkv_client* client) {
  char* text = NULL;
  CHECK(memkv_describe(client, &text) == MEMKV_OK && text[0] != '\0');
  memkv_free(text);
  CHECK(memkv_server_status(client, 0, 0, &text) == MEMKV_OK && text[0] == '{');
  memkv_free(text);
  CHECK(memkv_server_status(client, 7, 0, &text) == MEMKV_INVALID);
  memkv_listing* listing = NULL;
  CHECK(memkv_list(client, 0, 0, 0, &listing) == MEMKV_OK && listing->count == 82);
  size_t large = 0;
  for (size_t i = 0; i < listing->count; i++) large += listing->block_bytes[i] == 4096 && listing->key_sizes[i] > 8;
  CHECK(large == 80 && listing->generations[0] != 0);
  memkv_listing_free(listing);
  memkv_counters counters = {.struct_size = sizeof counters};
  CHECK(memkv_client_counters(client, &counters) == MEMKV_OK && counters.ops > 80 &&
        counters.bytes_written > 80 * 4096);
  memkv_rail rail = {.struct_size = sizeof rail};
  CHECK(memkv_client_rail(client, 1000, &rail) == MEMKV_MISS);
  static char memory[65536];
  memkv_region* region = NULL;
  CHECK(memkv_register(client, memory, sizeof memory, MEMKV_MEMORY_HOST, 0, &region) == MEMKV_OK);
  CHECK(memkv_put(client, "region", 6, memory, sizeof memory, 0, NULL) == MEMKV_OK);
  memkv_unregister(region);
  CHECK(memkv_register(client, NULL, 1, MEMKV_MEMORY_HOST, 0, &region) == MEMKV_INVALID && region == NULL);
  CHECK(memkv_flush(client, 0) == MEMKV_OK && memkv_exists(client, "x", 1, 0, NULL) == MEMKV_MISS);
}

/* The child of a fork is told so by every call, and what it does harms nobody. Its own client works. */
static void a_fork(memkv_client* client, const char* address) {
  memkv_queue* queue = NULL;
  CHECK(memkv_queue_open(client, &queue) == MEMKV_OK);
  char block[4096] = {0};
  const void* key = "fork";
  const size_t key_size = 4, size = sizeof block;
  void* piece = block;
  const memkv_batch batch = {.struct_size = sizeof batch,
                             .op_count = 1,
                             .keys = &key,
                             .key_sizes = &key_size,
                             .piece_count = 1,
                             .pieces = &piece,
                             .piece_sizes = &size,
                             .kind = MEMKV_OP_PUT};
  memkv_pending* pending = NULL;
  CHECK(memkv_submit(client, &batch, queue, 0, &pending) == MEMKV_OK);
  const pid_t child = fork();
  if (child == 0) {
    char* text = NULL;
    CHECK(memkv_put(client, "k", 1, "v", 1, 0, NULL) == MEMKV_FORKED);
    CHECK(strstr(memkv_last_message(), "fork") != NULL);
    CHECK(memkv_run(client, &batch, NULL) == MEMKV_FORKED && memkv_describe(client, &text) == MEMKV_FORKED);
    CHECK(memkv_wait(pending, -1) == MEMKV_FORKED && memkv_cancel(pending) == MEMKV_FORKED);
    CHECK(memkv_collect(pending, NULL) == MEMKV_FORKED);
    CHECK(memkv_queue_next(queue) == NULL && memkv_queue_fd(queue) == -1);
    memkv_queue_close(queue);
    memkv_close(client);
    memkv_client* own = connect_to(address);
    CHECK(memkv_put(own, "child", 5, "v", 1, 0, NULL) == MEMKV_OK);
    memkv_close(own);
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(memkv_wait(pending, -1) == MEMKV_OK && memkv_queue_next(queue) == pending);
  CHECK(memkv_collect(pending, NULL) == MEMKV_OK);
  CHECK(memkv_exists(client, "child", 5, 0, NULL) == MEMKV_OK && memkv_exists(client, "fork", 4, 0, NULL) == MEMKV_OK);
}

/* Large puts under way, some in a queue, none collected. */
static void begin_large_puts(memkv_client* client, void** memory, const size_t* size) {
  memkv_queue* queue = NULL;
  CHECK(memkv_queue_open(client, &queue) == MEMKV_OK);
  for (int i = 0; i < 16; i++) {
    char name[16];
    const void* key = name;
    const size_t key_size = (size_t)snprintf(name, sizeof name, "late/%d", i);
    const memkv_batch batch = {.struct_size = sizeof batch,
                               .op_count = 1,
                               .keys = &key,
                               .key_sizes = &key_size,
                               .piece_count = 1,
                               .pieces = memory,
                               .piece_sizes = size,
                               .kind = MEMKV_OP_PUT};
    memkv_pending* pending = NULL;
    CHECK(memkv_submit(client, &batch, i % 2 ? queue : NULL, 0, &pending) == MEMKV_OK);
  }
}

/* close() waits until their memory is quiet, and it may be freed. Who exits instead does no harm. */
static void end_with_ops_in_flight(const char* address) {
  const size_t size = 4 * MIB;
  void* memory = malloc(size);
  CHECK(memory != NULL);
  memset(memory, 'm', size);
  memkv_client* client = connect_to(address);
  begin_large_puts(client, &memory, &size);
  memkv_close(client);
  const pid_t child = fork();
  if (child == 0) {
    begin_large_puts(connect_to(address), &memory, &size);
    exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  free(memory);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  texts();
  settings_come_from_the_environment(argv[1]);
  memkv_client* client = connect_to(argv[1]);
  one_op_at_a_time(client);
  a_batch_of_columns(client);
  events(client);
  servers_and_counters(client);
  a_fork(client, argv[1]);
  memkv_close(client);
  end_with_ops_in_flight(argv[1]);
  memkv_close(NULL);
  puts("ok");
  return 0;
}
