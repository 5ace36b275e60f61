/* MemKV's client for C, and for every language that can call C. Link libmemkv.so. docs/c-api.md has the guide.
 *
 *   memkv_client* client;
 *   memkv_options options = {.struct_size = sizeof options};             // all zero: MEMKV_* environment, as
 * everywhere if (memkv_connect(&options, &client) != MEMKV_OK) fputs(memkv_last_message(), stderr); memkv_put(client,
 * "prefix/4f2a", 11, block, sizeof block, 0, NULL); memkv_close(client);
 *
 * Structs. The caller zeroes a struct and sets `struct_size` to its sizeof. Structs grow at their end only: a program
 * that was compiled against an older header works unchanged, and what a newer one has more must be zero here, else the
 * call is refused. In every field zero (and NULL) means the default.
 *
 * Status. A function that returns int32_t returns a status (MEMKV_OK and so on). 0 to 15 are outcomes: the store did
 * its job, and a miss is one of them. From 16 on they are failures. memkv_last_message() then says what was wrong,
 * where, and what to do. Nothing else signals an error: no exception, no errno, no signal.
 *
 * Threads. Any function may be called from any thread at any time, with one exception: what ends an object
 * (memkv_close, memkv_collect, memkv_queue_close, memkv_unregister) is called once, and no other thread uses that
 * object then or later. memkv_close is more patient: calls that are inside the client return before it does.
 *
 * Memory. Structs, columns, keys and texts given to a call are read during the call only. The memory of the pieces is
 * borrowed until its batch is complete: until memkv_run returns, memkv_wait says so, or memkv_queue_next returns the
 * batch. Then nothing touches it any more, whatever the outcome. After anything but a hit the content of a get's
 * memory is unspecified.
 *
 * Fork. In the child of a fork every call on the parent's objects returns MEMKV_FORKED and touches nothing of the
 * parent's; memkv_close then only closes the child's copies of descriptors. Connect a client of its own. */
#ifndef MEMKV_MEMKV_H
#define MEMKV_MEMKV_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MEMKV_API __attribute__((visibility("default")))
#else
#define MEMKV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with what is added. What is there stays as it is, as long as the library is called libmemkv.so.1. */
#define MEMKV_ABI_VERSION 1

/* Limits. */
#define MEMKV_KEY_BYTES_MAX 1024    /* keys are 1 to 1,024 opaque bytes */
#define MEMKV_BATCH_OPS_MAX 1048576 /* of one batch */

/* What became of an op or a call. The numbers are those of memkv::Status, of the wire and of JSON. */
enum {
  MEMKV_OK = 0,            /* done: a hit, stored, removed, touched */
  MEMKV_MISS = 1,          /* the key (or a byte of the asked range) is not there */
  MEMKV_EXISTS = 2,        /* put_if_absent found the key; nothing was written */
  MEMKV_REFUSED = 3,       /* a put that the store chose not to take; nothing was written */
  MEMKV_CHANGED = 4,       /* a get demanded a generation that is no longer the present one */
  MEMKV_INVALID = 16,      /* the request itself is wrong */
  MEMKV_TOO_LARGE = 17,    /* larger than the store's limit */
  MEMKV_UNAUTHORIZED = 18, /* the credential was not accepted, or the server failed to prove its own */
  MEMKV_VERSION = 19,      /* no protocol version in common */
  MEMKV_BUSY = 20,         /* a pool was empty, or memkv_wait's time is over: try again */
  MEMKV_NOT_READY = 21,    /* the server is still recovering */
  MEMKV_DEADLINE = 22,     /* the deadline passed; a get did not happen, a put may still land */
  MEMKV_UNAVAILABLE = 23,  /* the server cannot be reached */
  MEMKV_UNKNOWN = 24,      /* a change was sent and its reply was lost: it may or may not have happened */
  MEMKV_CORRUPT = 25,      /* bytes failed their checksum */
  MEMKV_IO = 26,           /* a device or socket failed */
  MEMKV_NO_SPACE = 27,     /* no room and nothing could be evicted in time; or the limit of locked memory */
  MEMKV_CANCELED = 28,     /* canceled by the caller, or by memkv_close */
  MEMKV_FORKED = 29,       /* called in the child of a fork */
  MEMKV_WRONG_WORKER = 30, /* never leaves the library */
  MEMKV_INTERNAL = 31,     /* a bug, reported instead of hidden */
  MEMKV_UNSUPPORTED = 32   /* this host, device or transport cannot do it; nothing was done */
};

/* Kinds of ops. */
enum {
  MEMKV_OP_GET = 1,           /* reads the range [offset, offset + size of its pieces), clipped to the block's end */
  MEMKV_OP_PUT = 2,           /* replaces the block */
  MEMKV_OP_PUT_IF_ABSENT = 3, /* MEMKV_EXISTS when it is there */
  MEMKV_OP_WRITE = 4,         /* writes the range at `offset`; the block is replaced as a whole */
  MEMKV_OP_EXISTS = 5,        /* MEMKV_OK or MEMKV_MISS */
  MEMKV_OP_REMOVE = 6,
  MEMKV_OP_TOUCH = 7, /* counts as used, as if it had been read */
  MEMKV_OP_STAT = 8,  /* block_bytes, generation */
  /* A hint: the block will be asked for soon, and its server may bring it from its drive into its RAM; no byte comes
   * here, and nothing is promised. MEMKV_OK: it is there or on its way. MEMKV_MISS: no such block. MEMKV_REFUSED: the
   * server was too busy for hints. MEMKV_UNSUPPORTED: an older server. `exists` says that the block was found. */
  MEMKV_OP_PREFETCH = 9
};

/* Flags of an op. */
enum {
  MEMKV_FLAG_CHAINED = 1, /* starts only after the op before it is done, and is canceled if that failed */
  MEMKV_FLAG_TOUCH = 2    /* of MEMKV_OP_EXISTS: what is found counts as used */
};

enum { MEMKV_TRANSPORT_AUTO = 0, MEMKV_TRANSPORT_TCP = 1, MEMKV_TRANSPORT_SHM = 2, MEMKV_TRANSPORT_RDMA = 3 };
enum { MEMKV_PUT_CHECKSUM_CLIENT = 0, MEMKV_PUT_CHECKSUM_SERVER = 1 };
enum { MEMKV_MEMORY_HOST = 0, MEMKV_MEMORY_CUDA = 1 };

typedef struct memkv_client memkv_client;   /* a client with its I/O threads */
typedef struct memkv_pending memkv_pending; /* a batch that was submitted and not collected */
typedef struct memkv_queue memkv_queue;     /* completed batches, and a descriptor that tells of them */
typedef struct memkv_region memkv_region;   /* memory that is registered with the NICs */

/* ---- Texts ------------------------------------------------------------------------------------------------------ */

/* "0.2.0" */
MEMKV_API const char* memkv_version(void);
/* MEMKV_ABI_VERSION of the library, to compare with that of the header. */
MEMKV_API uint32_t memkv_abi_version(void);
/* "ok", "miss", "deadline": stable. "unnamed" for what is no status. */
MEMKV_API const char* memkv_error_name(int32_t status);
/* One sentence of what it means and what to do. Static. */
MEMKV_API const char* memkv_error_text(int32_t status);
/* Why this thread's last call that returned a failure (16 and up) did so. Until the thread's next failure. */
MEMKV_API const char* memkv_last_message(void);
/* Ends a text that the library made. NULL is fine. */
MEMKV_API void memkv_free(char* text);

/* ---- Client ----------------------------------------------------------------------------------------------------- */

/* Settings. Precedence: field set here > MEMKV_* environment > MEMKV_CONFIG file > default. */
typedef struct memkv_options {
  size_t struct_size;
  const char* const* servers; /* "name=host:port", "host:port", "host", "[::1]:9900"; MEMKV_SERVERS is a comma list */
  size_t server_count;        /* 0 and no MEMKV_SERVERS: the server of `memkv start` on this host, 127.0.0.1:9900 */
  const char* namespace_key;  /* 64 hex characters or @FILE; MEMKV_AUTH_KEY; none = the local server's, else none */
  const char* const* rdma_devices; /* as in /sys/class/infiniband; MEMKV_RDMA_DEVICES; none = all usable ones */
  size_t rdma_device_count;
  const char* shm_dir;             /* where servers' sockets are; MEMKV_SHM_DIR */
  const char* congestion;          /* TCP congestion control; "system" leaves it alone */
  const char* client_name;         /* shown by `memkv status` */
  const char* config_file;         /* MEMKV_CONFIG */
  int64_t get_timeout_ns;          /* floor of default deadlines; 0 = 2 s */
  int64_t put_timeout_ns;          /* 0 = 10 s */
  uint32_t transport;              /* MEMKV_TRANSPORT_*; anything but auto is used or nothing is */
  uint32_t io_contexts;            /* I/O threads; 0 = 2, or 1 with less than two CPUs */
  uint32_t connections_per_worker; /* of one I/O context; 0 = 1 */
  uint32_t put_checksum;           /* MEMKV_PUT_CHECKSUM_*: who makes a put's checksums */
  uint32_t skip_verify;            /* 1 = do not check the bytes that arrive */
  uint32_t reserved;               /* 0 */
  const char* log_level;           /* debug, info, warn, error, off: of the whole process; MEMKV_LOG_LEVEL; NULL = as it
                                      is, and that is info at first */
} memkv_options;

/* Checks the settings and starts the I/O threads. A server that is down is no error here: its keys are misses until it
 * is up. `options` NULL = all defaults. */
MEMKV_API int32_t memkv_connect(const memkv_options* options, memkv_client** client);
/* Cancels every batch under way and waits until their memory is quiet. Then ends the I/O threads, all queues, and all
 * batches that were not collected. Other threads' calls return before it does (list, flush and status by their
 * deadlines). Regions live on. NULL is fine. */
MEMKV_API void memkv_close(memkv_client* client);

/* ---- One op, blocking ------------------------------------------------------------------------------------------- */

/* What became of one op. */
typedef struct memkv_outcome {
  size_t struct_size;
  int32_t status;
  uint8_t exists;       /* exists, stat, prefetch */
  uint8_t unreachable;  /* the server could not be asked, or said nothing: why a miss, refused, deadline */
  uint16_t reserved;    /* 0 */
  uint64_t bytes;       /* get: delivered; put, write: stored */
  uint64_t block_bytes; /* get, stat: size of the whole block */
  uint64_t generation;  /* version of the block; 0 = none */
} memkv_outcome;

/* Return the op's status. `timeout_ns`: from now; 0 = the default of the op's kind. `outcome` may be NULL. */
MEMKV_API int32_t memkv_put(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                            int64_t timeout_ns, memkv_outcome* outcome);
MEMKV_API int32_t memkv_put_if_absent(memkv_client* client, const void* key, size_t key_size, const void* data,
                                      size_t size, int64_t timeout_ns, memkv_outcome* outcome);
MEMKV_API int32_t memkv_write(memkv_client* client, const void* key, size_t key_size, const void* data, size_t size,
                              uint64_t offset, int64_t timeout_ns, memkv_outcome* outcome);
MEMKV_API int32_t memkv_get(memkv_client* client, const void* key, size_t key_size, void* data, size_t size,
                            uint64_t offset, int64_t timeout_ns, memkv_outcome* outcome);
MEMKV_API int32_t memkv_exists(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                               memkv_outcome* outcome);
MEMKV_API int32_t memkv_remove(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                               memkv_outcome* outcome);
MEMKV_API int32_t memkv_touch(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                              memkv_outcome* outcome);
MEMKV_API int32_t memkv_stat(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                             memkv_outcome* outcome);
MEMKV_API int32_t memkv_prefetch(memkv_client* client, const void* key, size_t key_size, int64_t timeout_ns,
                                 memkv_outcome* outcome);

/* ---- Batches ---------------------------------------------------------------------------------------------------- */

/* Ops as columns: arrays of `op_count` entries, and of `piece_count` entries for the pieces of all ops, one op's after
 * the other's. Each op succeeds or fails alone. A key that is empty or too long makes its op MEMKV_INVALID; a NULL
 * where memory must be, or counts that do not fit together, refuse the whole call with nothing begun. No ops are fine.
 */
typedef struct memkv_batch {
  size_t struct_size;
  size_t op_count;
  const void* const* keys;
  const size_t* key_sizes;
  size_t piece_count;
  void* const* pieces; /* a put only reads them */
  const size_t* piece_sizes;
  const uint32_t* op_piece_counts; /* pieces of each op; NULL = one for each get, put and write, none for the rest */
  const uint8_t* op_kinds;         /* MEMKV_OP_*; NULL = all are `kind` */
  const uint8_t* op_flags;         /* MEMKV_FLAG_*; NULL = none but `flags` */
  const uint64_t* offsets;         /* in the block, of gets and writes; NULL = all 0 */
  const uint64_t* generations;     /* that gets demand, 0 = any; NULL = all 0 */
  uint32_t kind;
  uint32_t flags;     /* of every op */
  int64_t timeout_ns; /* of all ops, from now; 0 = the defaults */
} memkv_batch;

/* Where outcomes go: columns of `op_count` entries that the caller owns. NULL = not wanted. As in memkv_outcome. */
typedef struct memkv_results {
  size_t struct_size;
  int32_t* statuses;
  uint64_t* bytes;
  uint64_t* block_bytes;
  uint64_t* generations;
  uint8_t* exists;
  uint8_t* unreachable;
} memkv_results;

/* Runs a batch to its end, by its deadline. MEMKV_OK: it ran, and each op has its outcome. `results` may be NULL. */
MEMKV_API int32_t memkv_run(memkv_client* client, const memkv_batch* batch, const memkv_results* results);

/* Begins a batch and returns at once. When it is complete it is in `queue` (NULL = in none: use memkv_wait).
 * `tag` is the caller's. Every pending is ended by memkv_collect, or by memkv_close. Where another thread drains the
 * queue, `*pending` may have been collected by the time that it is here: the tag says which one it is. */
MEMKV_API int32_t memkv_submit(memkv_client* client, const memkv_batch* batch, memkv_queue* queue, uint64_t tag,
                               memkv_pending** pending);
MEMKV_API uint64_t memkv_pending_tag(const memkv_pending* pending);
MEMKV_API size_t memkv_pending_op_count(const memkv_pending* pending);
/* Waits until the batch is complete, for `timeout_ns` at most; negative = until its deadline; 0 = a look. MEMKV_OK: it
 * is complete. MEMKV_BUSY: not yet. */
MEMKV_API int32_t memkv_wait(memkv_pending* pending, int64_t timeout_ns);
/* Makes it complete soon: what is not done becomes MEMKV_CANCELED, or MEMKV_UNKNOWN for a change that may have left. */
MEMKV_API int32_t memkv_cancel(memkv_pending* pending);
/* Waits until it is complete, writes its outcomes and ends the pending. `results` may be NULL. If `results` is refused
 * (MEMKV_INVALID) the pending lives on. */
MEMKV_API int32_t memkv_collect(memkv_pending* pending, const memkv_results* results);

/* ---- Events ----------------------------------------------------------------------------------------------------- */

/* A client may have several. */
MEMKV_API int32_t memkv_queue_open(memkv_client* client, memkv_queue** queue);
/* A descriptor for poll(2), epoll or an event loop: readable exactly while memkv_queue_next has something to return.
 * It is an eventfd, non-blocking. An event loop that reads it empty is told again of the next batch; one that writes to
 * it wakes itself. Then call memkv_queue_next until it returns NULL. The library closes it. -1: no queue, or a fork's
 * child. */
MEMKV_API int memkv_queue_fd(const memkv_queue* queue);
/* The next completed batch, each once, in the order of completion; NULL = none now. Never blocks. */
MEMKV_API memkv_pending* memkv_queue_next(memkv_queue* queue);
/* Batches under way go on, without a queue. NULL is fine. */
MEMKV_API void memkv_queue_close(memkv_queue* queue);

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

/* Registers memory with the NICs, so that rdma moves its bytes without a copy; tcp and shm need none, and do nothing.
 * `device`: the CUDA device of MEMKV_MEMORY_CUDA. Blocks. MEMKV_UNSUPPORTED: such memory cannot be registered here, the
 * message says why; copy through host memory then. MEMKV_NO_SPACE: the limit of locked memory. */
MEMKV_API int32_t memkv_register(memkv_client* client, void* data, size_t size, uint32_t kind, int32_t device,
                                 memkv_region** region);
/* Waits until no NIC can touch the memory any more. Before or after memkv_close. NULL is fine. */
MEMKV_API void memkv_unregister(memkv_region* region);

/* ---- Servers and counters --------------------------------------------------------------------------------------- */

MEMKV_API size_t memkv_server_count(const memkv_client* client);
/* Where a key lives: a place in the list of servers. */
MEMKV_API size_t memkv_server_of(const memkv_client* client, const void* key, size_t key_size);
/* Texts that memkv_free ends. A server's name in the list; its status as JSON; one human line for every server. */
MEMKV_API int32_t memkv_server_name(memkv_client* client, size_t server, char** text);
MEMKV_API int32_t memkv_server_status(memkv_client* client, size_t server, int64_t timeout_ns, char** json);
MEMKV_API int32_t memkv_describe(memkv_client* client, char** text);
/* Removes every block of this credential's namespace on all servers. */
MEMKV_API int32_t memkv_flush(memkv_client* client, int64_t timeout_ns);

/* Blocks of the namespace on one server, as columns. Owned by the library until memkv_listing_free. */
typedef struct memkv_listing {
  size_t struct_size;
  size_t count;
  const void* const* keys;
  const size_t* key_sizes;
  const uint64_t* block_bytes;
  const uint64_t* generations;
} memkv_listing;

/* `limit`: at most so many blocks; 0 = all. */
MEMKV_API int32_t memkv_list(memkv_client* client, size_t server, uint64_t limit, int64_t timeout_ns,
                             memkv_listing** listing);
MEMKV_API void memkv_listing_free(memkv_listing* listing);

/* Counters of this client since it was connected (docs/operating.md). Bytes are bytes, the rest are counts. */
typedef struct memkv_counters {
  size_t struct_size;
  uint64_t ops, hits, misses, failures, unknown, retries, bytes_read, bytes_written, corrupt, connects, breaker_opened,
      staged_bytes, transport_switches, fenced;
} memkv_counters;

MEMKV_API int32_t memkv_client_counters(memkv_client* client, memkv_counters* counters);

/* Counters of one NIC of this process, which its clients share (docs/rdma.md). */
typedef struct memkv_rail {
  size_t struct_size;
  char device[64];
  uint64_t working; /* 1 = the device is there */
  uint64_t links, links_total, ops, bytes_in, bytes_out, failures, retry_errors, rnr_errors, access_errors, switches;
} memkv_rail;

/* `rail` counts from 0. MEMKV_MISS: there are not so many. */
MEMKV_API int32_t memkv_client_rail(memkv_client* client, size_t rail, memkv_rail* counters);

#ifdef __cplusplus
}
#endif

#endif
