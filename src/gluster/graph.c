// SPDX-License-Identifier: BSD-3-Clause
// The functions that GlusterFS calls for each file operation, and those that it is called by; made from fops.def.
#include "graph.h"

#include <glusterfs/defaults.h>
#include <glusterfs/logging.h>
#include <glusterfs/stack.h>
#include <glusterfs/syncop.h>
#include <glusterfs/xlator.h>

// FOR_EACH(MACRO, (a, b), (c, d), …) is MACRO(a, b) MACRO(c, d) ….
#define RESCAN(...) RESCAN1(RESCAN1(RESCAN1(__VA_ARGS__)))
#define RESCAN1(...) RESCAN2(RESCAN2(RESCAN2(__VA_ARGS__)))
#define RESCAN2(...) __VA_ARGS__
#define NOTHING
#define FOR_EACH(MACRO, ...) RESCAN(FOR_EACH_STEP(MACRO, __VA_ARGS__))
#define FOR_EACH_STEP(MACRO, pair, ...) MACRO pair __VA_OPT__(FOR_EACH_AGAIN NOTHING()(MACRO, __VA_ARGS__))
#define FOR_EACH_AGAIN() FOR_EACH_STEP
#define LIST(...) __VA_ARGS__

// The types of C behind the kinds, and where a Value has them.
typedef loc_t* type_loc;
typedef fd_t* type_fd;
typedef inode_t* type_inode;
typedef dict_t* type_dict;
typedef struct iatt *type_iatt, *type_entry;
typedef const char *type_text, *type_name;
typedef struct iovec* type_vector;
typedef struct iobref* type_iobref;
typedef gf_dirent_t* type_dirents;
typedef struct gf_flock* type_flock;
typedef struct gf_lease* type_lease;
typedef struct statvfs* type_statvfs;
typedef uint8_t* type_checksum;
typedef lock_migration_info_t* type_locks;
typedef int32_t type_i32, type_count;
typedef uint32_t type_u32;
typedef size_t type_size;
typedef off_t type_off;
typedef off64_t type_off64;
typedef mode_t type_mode;
typedef dev_t type_dev;
typedef entrylk_cmd type_entrylk_cmd;
typedef entrylk_type type_entrylk_type;
typedef gf_xattrop_flags_t type_xattrop;
typedef gf_seek_what_t type_seek;

#define in_loc loc
#define in_fd fd
#define in_inode inode
#define in_dict dict
#define in_iatt iatt
#define in_entry iatt
#define in_text text
#define in_name text
#define in_vector vector
#define in_iobref iobref
#define in_dirents dirents
#define in_flock flock
#define in_lease lease
#define in_statvfs statvfs
#define in_checksum checksum
#define in_locks locks
#define in_count number
#define in_i32 number
#define in_u32 number
#define in_size number
#define in_off number
#define in_off64 number
#define in_mode number
#define in_dev number
#define in_entrylk_cmd number
#define in_entrylk_type number
#define in_xattrop number
#define in_seek number

#define PARAMETER(kind, name) , type_##kind name##_
#define VALUE(kind, name) {.in_##kind = name##_},
#define LOCAL(kind, name) type_##kind name##_ = (type_##kind)(value++)->in_##kind;
#define ARGUMENT(kind, name) , name##_
#define FIELD(kind, name) {kind_##kind, #name},
#define COUNT(kind, name) +1

// What all instances begin with: GlusterFS puts its own functions in, which wind to the first child.
static struct xlator_fops all_default;

// A level of their own, since what FOR_EACH makes is several arguments.
#define WIND(...) STACK_WIND_COOKIE(__VA_ARGS__)
#define UNWIND(...) STACK_UNWIND_STRICT(__VA_ARGS__)

// STACK_WIND calls nobody when there is no memory, and does not tell: that its arguments were used tells.
#define FOP(name, arguments, answer)                                                                                   \
  static int32_t name##_fop(call_frame_t* frame, xlator_t* this FOR_EACH(PARAMETER, LIST arguments)) {                 \
    Value values[] = {FOR_EACH(VALUE, LIST arguments)};                                                                \
    door_fop(frame, this, fop_##name, values);                                                                         \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static int32_t name##_cbk(call_frame_t* frame, void* cookie, xlator_t* this, int32_t op_ret,                         \
                            int32_t op_errno FOR_EACH(PARAMETER, LIST answer)) {                                       \
    (void)frame;                                                                                                       \
    (void)this;                                                                                                        \
    Value values[] = {FOR_EACH(VALUE, LIST answer)};                                                                   \
    door_answer(cookie, op_ret, op_errno, values);                                                                     \
    return 0;                                                                                                          \
  }                                                                                                                    \
  static int name##_wind(call_frame_t* frame, void* cookie, xlator_t* child, const Value* value) {                     \
    for (const xlator_t* xl = child; xl->fops->name == all_default.name; xl = FIRST_CHILD(xl))                         \
      if (xl->children == NULL) return EOPNOTSUPP;                                                                     \
    bool called = false;                                                                                               \
    FOR_EACH(LOCAL, LIST arguments)                                                                                    \
    WIND(frame, name##_cbk, cookie, child, child->fops->name FOR_EACH(ARGUMENT, LIST arguments) + (called = true, 0)); \
    return called ? 0 : ENOMEM;                                                                                        \
  }                                                                                                                    \
  static void name##_unwind(call_frame_t* frame, int32_t op_ret, int32_t op_errno, const Value* value) {               \
    FOR_EACH(LOCAL, LIST answer)                                                                                       \
    UNWIND(name, frame, op_ret, op_errno FOR_EACH(ARGUMENT, LIST answer));                                             \
  }
#include "fops.def"
#undef FOP

const Fop graph_fops[fop_count] = {
#define FOP(name, arguments, answer)  \
  {#name,                             \
   {FOR_EACH(FIELD, LIST arguments)}, \
   0 FOR_EACH(COUNT, LIST arguments), \
   {FOR_EACH(FIELD, LIST answer)},    \
   0 FOR_EACH(COUNT, LIST answer)},
#include "fops.def"
#undef FOP
};

static int (*const winds[])(call_frame_t*, void*, xlator_t*, const Value*) = {
#define FOP(name, arguments, answer) name##_wind,
#include "fops.def"
#undef FOP
};

static void (*const unwinds[])(call_frame_t*, int32_t, int32_t, const Value*) = {
#define FOP(name, arguments, answer) name##_unwind,
#include "fops.def"
#undef FOP
};

void* graph_define(xlator_t* xl, const bool* defined) {
  struct xlator_fops* fops = NULL;
  if (defined != NULL) {
    fops = malloc(sizeof *fops);
    if (fops == NULL) return NULL;
    *fops = all_default;
#define FOP(name, arguments, answer) \
  if (defined[fop_##name]) fops->name = name##_fop;
#include "fops.def"
#undef FOP
  }
  xl->fops = fops != NULL ? fops : &all_default;
  return fops;
}

int graph_wind(int fop, call_frame_t* frame, void* cookie, xlator_t* child, const Value* arguments) {
  return winds[fop](frame, cookie, child, arguments);
}

void graph_unwind(int fop, call_frame_t* frame, int32_t ret, int32_t err, const Value* answer) {
  static const Value nothing[max_values];
  unwinds[fop](frame, ret, err, answer != NULL ? answer : nothing);
}

// A request of nobody's: those are what is waited for.
call_frame_t* graph_begin_work(xlator_t* xl) { return create_frame(xl, xl->ctx->pool); }

void graph_end_work(call_frame_t* work) {
  if (work != NULL) STACK_DESTROY(work->root);
}

void** graph_private(xlator_t* xl) { return &xl->private; }
const char* graph_name(const xlator_t* xl) { return xl->name; }
const char* graph_type(const xlator_t* xl) { return xl->type; }
dict_t* graph_options(const xlator_t* xl) { return xl->options; }

xlator_t* graph_child(const xlator_t* xl, size_t number) {
  const xlator_list_t* child = xl->children;
  while (child != NULL && number-- > 0) child = child->next;
  return child != NULL ? child->xlator : NULL;
}

xlator_t* graph_set_this(xlator_t* xl) {
  xlator_t* before = THIS;
  THIS = xl;
  return before;
}

void graph_log(const char* text, bool is_error) {
  const char* name = THIS->name != NULL ? THIS->name : "python";
  if (is_error)
    gf_log(name, GF_LOG_ERROR, "%s", text);
  else
    gf_log(name, GF_LOG_DEBUG, "%s", text);
}

// Whether this thread has a stack as threads usually have, by which Python limits recursion. GlusterFS's io-threads
// have 256 KiB of 8 MiB.
static bool has_usual_stack(void) {
  static _Thread_local enum { unknown, little, enough } has;
  if (has == unknown) {
    pthread_attr_t attributes;
    size_t size = 0, usual = 0;
    if (pthread_getattr_default_np(&attributes) == 0) {
      pthread_attr_getstacksize(&attributes, &usual);
      pthread_attr_destroy(&attributes);
    }
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      pthread_attr_getstacksize(&attributes, &size);
      pthread_attr_destroy(&attributes);
    }
    // What a thread has may be told without its guard.
    has = size >= usual / 2 ? enough : little;
  }
  return has == enough;
}

bool graph_can_call(void) { return synctask_get() == NULL && has_usual_stack(); }

bool graph_thread(pthread_t* thread, void* (*run)(void*), void* argument) {
  return gf_thread_create(thread, NULL, run, argument, "python") == 0;
}

void graph_frame(const call_frame_t* frame, FrameFacts* facts) {
  const call_stack_t* root = frame->root;
  facts->uid = root->uid;
  facts->gid = root->gid;
  facts->pid = root->pid;
  facts->unique = root->unique;
  facts->groups = root->groups;
  facts->group_count = root->groups != NULL ? root->ngrps : 0;
  facts->lk_owner = root->lk_owner.data;
  facts->lk_owner_size = root->lk_owner.len > 0 ? (size_t)root->lk_owner.len : 0;
  facts->client = root->client != NULL ? root->client->client_uid : NULL;
}

static int32_t forget(xlator_t* this, inode_t* inode) {
  uint64_t context = 0;
  if (inode_ctx_del(inode, this, &context) == 0 && context != 0) door_forget(this, context);
  return 0;
}

static int32_t release(xlator_t* this, fd_t* fd) {
  const uint64_t context = graph_fd_context(fd, this);
  if (context != 0) door_forget(this, context);
  return 0;
}

// GlusterFS's own way is to pass on each event of each child: to a client it would be down with the first of them.
static int32_t notify(xlator_t* this, int32_t event, void* data, ...) {
  const bool up = event == GF_EVENT_CHILD_UP;
  if (this->children->next == NULL || (!up && event != GF_EVENT_CHILD_DOWN)) return default_notify(this, event, data);
  switch (door_child(this, data, up)) {
    case news_up:
      return default_notify(this, GF_EVENT_CHILD_UP, data);
    case news_down:
      return default_notify(this, GF_EVENT_CHILD_DOWN, data);
    case news_of_some:
      return default_notify(this, up ? GF_EVENT_SOME_DESCENDENT_UP : GF_EVENT_SOME_DESCENDENT_DOWN, data);
    default:
      return 0;
  }
}

static struct xlator_cbks callbacks = {.forget = forget, .release = release, .releasedir = release};

// Those that GlusterFS's tools can ask for; the others are the script's own.
static struct volume_options options[] = {
    {.key = {"script"}, .type = GF_OPTION_TYPE_ANY, .description = "The translator's script, a path."},
    {.key = {"module-name"}, .type = GF_OPTION_TYPE_ANY, .description = "The same as a module on Python's path."},
    {.key = {NULL}},
};

__attribute__((visibility("default"))) xlator_api_t xlator_api = {
    .op_version = {1},
    .identifier = "python",
    .options = options,
    .category = GF_EXPERIMENTAL,
    .init = door_init,
    .fini = door_fini,
    .reconfigure = door_reconfigure,
    .notify = notify,
    .fops = &all_default,
    .cbks = &callbacks,
};
