// SPDX-License-Identifier: BSD-3-Clause
// The boundary between GlusterFS, whose headers are C, and the rest of the door, which is C++ and includes but two.
//
// graph.c has the functions that GlusterFS calls for each file operation, made from fops.def, and value.c what is held
// of their arguments, which come and go as arrays of Value; inside.c looks into them.
#pragma once

// It is C's as well, and has GlusterFS's names.
// NOLINTBEGIN(modernize-*,bugprone-reserved-identifier,clang-analyzer-optin.performance.Padding)
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#define NOEXCEPT noexcept
#else
#define NOEXCEPT
#endif

typedef struct _xlator xlator_t;
typedef struct _call_frame call_frame_t;
typedef struct _loc loc_t;
typedef struct _fd fd_t;
typedef struct _inode inode_t;
typedef struct _dict dict_t;
typedef struct _gf_dirent gf_dirent_t;
typedef struct lock_migration_info lock_migration_info_t;
struct gf_flock;
struct gf_lease;
struct iatt;
struct iobref;

// What an argument or a part of an answer is. `entry` is the iatt of an inode that the answer is about, `name` a text
// that may be missing.
#define KINDS(KIND)                                                                                                \
  KIND(loc) KIND(fd) KIND(inode) KIND(dict) KIND(iatt) KIND(entry) KIND(text) KIND(name) KIND(vector) KIND(count)  \
  KIND(iobref) KIND(dirents) KIND(flock) KIND(lease) KIND(statvfs) KIND(checksum) KIND(locks) KIND(i32) KIND(u32)  \
  KIND(size) KIND(off) KIND(off64) KIND(mode) KIND(dev) KIND(entrylk_cmd) KIND(entrylk_type) KIND(xattrop)         \
  KIND(seek)

enum Kind {
#define KIND(name) kind_##name,
  KINDS(KIND)
#undef KIND
};

typedef union Value {
  int64_t number;
  const char* text;
  loc_t* loc;
  fd_t* fd;
  inode_t* inode;
  dict_t* dict;
  struct iatt* iatt;
  struct iovec* vector;
  struct iobref* iobref;
  gf_dirent_t* dirents;
  struct gf_flock* flock;
  struct gf_lease* lease;
  struct statvfs* statvfs;
  uint8_t* checksum;
  lock_migration_info_t* locks;
} Value;

enum { max_values = 12, checksum_size = 32, gfid_size = 16 };

typedef struct Field {
  enum Kind kind;
  const char* name;
} Field;

typedef struct Fop {
  const char* name;
  Field arguments[max_values];
  int argument_count;
  Field answer[max_values];
  int answer_count;
} Fop;

enum {
#define FOP(name, arguments, answer) fop_##name,
#include "fops.def"
#undef FOP
  fop_count
};

extern const Fop graph_fops[fop_count];

// What the door does when GlusterFS calls.
int32_t door_init(xlator_t* xl) NOEXCEPT;
void door_fini(xlator_t* xl) NOEXCEPT;
int32_t door_reconfigure(xlator_t* xl, dict_t* options) NOEXCEPT;
void door_fop(call_frame_t* frame, xlator_t* xl, int fop, Value* arguments) NOEXCEPT;
// The answer to graph_wind with this cookie.
void door_answer(void* cookie, int32_t ret, int32_t err, Value* answer) NOEXCEPT;
// One of several children is up or down. What the parent is to be told of this translator, which has only one state.
typedef enum News { news_up, news_down, news_of_some, no_news } News;
News door_child(xlator_t* xl, const xlator_t* child, bool up) NOEXCEPT;
// A context of the door's is no longer needed.
void door_forget(xlator_t* xl, uint64_t context) NOEXCEPT;

// graph.c

// From now on these file operations of the translator's are the door's, and the others go straight to the first child;
// with null, all do. The result is to be given to free() when no thread can be in the translator any more; null: no
// memory, or null was given.
void* graph_define(xlator_t* xl, const bool* defined) NOEXCEPT;
// Asks a child. 0; else there will be no answer: ENOMEM, or EOPNOTSUPP where nobody below has this file operation,
// which GlusterFS itself would look for beyond the last translator.
int graph_wind(int fop, call_frame_t* frame, void* cookie, xlator_t* child, const Value* arguments) NOEXCEPT;
// Answers the parent; `answer` null: with nothing but the two numbers.
void graph_unwind(int fop, call_frame_t* frame, int32_t ret, int32_t err, const Value* answer) NOEXCEPT;

// libgfapi ends no graph meanwhile, or not for ten seconds. Null: no memory, which is good as well.
call_frame_t* graph_begin_work(xlator_t* xl) NOEXCEPT;
void graph_end_work(call_frame_t* work) NOEXCEPT;

void** graph_private(xlator_t* xl) NOEXCEPT;
const char* graph_name(const xlator_t* xl) NOEXCEPT;
const char* graph_type(const xlator_t* xl) NOEXCEPT;
dict_t* graph_options(const xlator_t* xl) NOEXCEPT;
// The child of this number, or null.
xlator_t* graph_child(const xlator_t* xl, size_t number) NOEXCEPT;
// Makes this translator the one that the calling thread works for, and returns the one before. Null: none of a graph.
xlator_t* graph_set_this(xlator_t* xl) NOEXCEPT;
void graph_log(const char* text, bool is_error) NOEXCEPT;
// Whether Python can be called in this thread as it is now: not in one of GlusterFS's light threads, whose stack is not
// the thread's, nor where there is little stack.
bool graph_can_call(void) NOEXCEPT;
// Starts a thread as GlusterFS does: with its signals blocked. To be joined or detached. False: it could not be
// started.
bool graph_thread(pthread_t* thread, void* (*run)(void*), void* argument) NOEXCEPT;

typedef struct FrameFacts {
  uint32_t uid, gid;
  int32_t pid;
  uint64_t unique;
  const uint32_t* groups;
  size_t group_count;
  const char* lk_owner;
  size_t lk_owner_size;
  const char* client;  // null: not a brick, or no client
} FrameFacts;
void graph_frame(const call_frame_t* frame, FrameFacts* facts) NOEXCEPT;

// value.c

// Makes values the caller's own, where they are GlusterFS's: by a reference or a copy. False: no memory, and nothing is
// held.
bool graph_hold(const Field* fields, int count, Value* values) NOEXCEPT;
void graph_drop(const Field* fields, int count, Value* values) NOEXCEPT;

// inside.c

typedef struct LocFacts {
  const char* path;  // may be null, as all here
  const char* name;
  inode_t* inode;
  inode_t* parent;
  const uint8_t* gfid;
  const uint8_t* pargfid;
} LocFacts;
void graph_loc(const loc_t* loc, LocFacts* facts) NOEXCEPT;

typedef struct FdFacts {
  inode_t* inode;
  int32_t flags;
  uint64_t pid;
  bool anonymous;
} FdFacts;
void graph_fd(const fd_t* fd, FdFacts* facts) NOEXCEPT;

const uint8_t* graph_inode_gfid(const inode_t* inode) NOEXCEPT;
int graph_inode_type(const inode_t* inode) NOEXCEPT;

// A translator's number for an inode or fd: 0 where there is none.
uint64_t graph_inode_context(inode_t* inode, xlator_t* xl) NOEXCEPT;
uint64_t graph_fd_context(fd_t* fd, xlator_t* xl) NOEXCEPT;
// Sets it; false: no memory.
bool graph_set_inode_context(inode_t* inode, xlator_t* xl, uint64_t context) NOEXCEPT;
bool graph_set_fd_context(fd_t* fd, xlator_t* xl, uint64_t context) NOEXCEPT;

// What setattr's `valid` is made of, which a header has that cannot be read as C++. The last has no name.
typedef struct Constant {
  const char* name;
  long value;
} Constant;
extern const Constant graph_constants[];

// A value of a dict.
enum ItemType { item_signed, item_unsigned, item_real, item_text, item_gfid, item_bytes };
typedef struct Item {
  enum ItemType type;
  int64_t number;  // of the first two
  double real;
  const char* data;  // of the others
  size_t size;
} Item;
typedef bool (*ItemVisitor)(void* context, const char* key, const Item* item);

dict_t* graph_dict_new(void) NOEXCEPT;
size_t graph_dict_count(const dict_t* dict) NOEXCEPT;
// visit() for the item of this key; with key null, for each until it says false. False: visit() has, or no such key.
bool graph_dict_visit(dict_t* dict, const char* key, ItemVisitor visit, void* context) NOEXCEPT;
// 0, or an errno.
int graph_dict_set(dict_t* dict, const char* key, const Item* item) NOEXCEPT;
void graph_dict_delete(dict_t* dict, const char* key) NOEXCEPT;

// Memory of GlusterFS's for so many bytes, as a vector of one, with its iobref. Null: no memory.
struct iobref* graph_buffer(size_t size, struct iovec* vector) NOEXCEPT;

typedef struct DirentFacts {
  const char* name;
  uint64_t ino, offset;
  uint32_t type;
  struct iatt* stat;
  dict_t* dict;
  inode_t* inode;
} DirentFacts;
// The list's head, empty; to be freed with graph_drop.
gf_dirent_t* graph_dirents_new(void) NOEXCEPT;
// The entry after this one, or the first after the head; null: no more.
gf_dirent_t* graph_dirents_next(gf_dirent_t* head, gf_dirent_t* entry) NOEXCEPT;
void graph_dirent(gf_dirent_t* entry, DirentFacts* facts) NOEXCEPT;
// A new entry like these facts, with references of its own. Null: no memory.
gf_dirent_t* graph_dirent_new(const DirentFacts* facts) NOEXCEPT;
// Adds a copy of the entry at the list's end.
bool graph_dirents_add(gf_dirent_t* head, gf_dirent_t* entry) NOEXCEPT;
void graph_dirent_free(gf_dirent_t* entry) NOEXCEPT;

typedef struct FlockFacts {
  int type, whence;
  int64_t start, length;
  int pid;
  const char* owner;
  size_t owner_size;
} FlockFacts;
struct gf_flock* graph_flock_new(void) NOEXCEPT;
void graph_flock(const struct gf_flock* flock, FlockFacts* facts) NOEXCEPT;
// The owner stays.
void graph_set_flock(struct gf_flock* flock, const FlockFacts* facts) NOEXCEPT;

#ifdef __cplusplus
}
#endif
// NOLINTEND(modernize-*,bugprone-reserved-identifier,clang-analyzer-optin.performance.Padding)
