// SPDX-License-Identifier: BSD-3-Clause
// How the door looks into GlusterFS's objects, changes them and makes new ones.
#include <glusterfs/dict.h>
#include <glusterfs/fd.h>
#include <glusterfs/gf-dirent.h>
#include <glusterfs/globals.h>
#include <glusterfs/inode.h>
#include <glusterfs/iobuf.h>
#include <glusterfs/mem-pool.h>
#include <glusterfs/xlator.h>

#include "graph.h"

void graph_loc(const loc_t* loc, LocFacts* facts) {
  *facts = (LocFacts){loc->path, loc->name, loc->inode, loc->parent, loc->gfid, loc->pargfid};
}

void graph_fd(const fd_t* fd, FdFacts* facts) { *facts = (FdFacts){fd->inode, fd->flags, fd->pid, fd->anonymous}; }

const uint8_t* graph_inode_gfid(const inode_t* inode) { return inode->gfid; }
int graph_inode_type(const inode_t* inode) { return inode->ia_type; }

uint64_t graph_inode_context(inode_t* inode, xlator_t* xl) {
  uint64_t context = 0;
  return inode_ctx_get(inode, xl, &context) == 0 ? context : 0;
}

uint64_t graph_fd_context(fd_t* fd, xlator_t* xl) {
#ifdef fd_ctx_get_ptr  // GlusterFS 11
  return fd_ctx_get(fd, xl);
#else
  uint64_t context = 0;
  return fd_ctx_get(fd, xl, &context) == 0 ? context : 0;
#endif
}

bool graph_set_inode_context(inode_t* inode, xlator_t* xl, uint64_t context) {
  return inode_ctx_set(inode, xl, &context) == 0;
}

bool graph_set_fd_context(fd_t* fd, xlator_t* xl, uint64_t context) { return fd_ctx_set(fd, xl, context) == 0; }

#define CONSTANT(name) \
  { #name, name }
const Constant graph_constants[] = {
    CONSTANT(GF_SET_ATTR_MODE),  CONSTANT(GF_SET_ATTR_UID),   CONSTANT(GF_SET_ATTR_GID),   CONSTANT(GF_SET_ATTR_SIZE),
    CONSTANT(GF_SET_ATTR_ATIME), CONSTANT(GF_SET_ATTR_MTIME), CONSTANT(GF_SET_ATTR_CTIME), {NULL, 0},
};

dict_t* graph_dict_new(void) { return dict_new(); }

size_t graph_dict_count(const dict_t* dict) { return (size_t)dict->count; }

static bool visit_item(const char* key, data_t* data, ItemVisitor visit, void* context) {
  Item item = {.data = data->data, .size = data->len};
  switch (data->data_type) {
    case GF_DATA_TYPE_INT:
      item.type = item_signed;
      item.number = data_to_int64(data);
      break;
    case GF_DATA_TYPE_UINT:
      item.type = item_unsigned;
      item.number = (int64_t)data_to_uint64(data);
      break;
    case GF_DATA_TYPE_DOUBLE:
      item.type = item_real;
      item.real = strtod(data->data, NULL);
      break;
    case GF_DATA_TYPE_STR:
      item.type = item_text;
      // Its length counts the NUL, where there is one.
      item.size = strnlen(data->data, data->len);
      break;
    case GF_DATA_TYPE_GFUUID:
      item.type = data->len == gfid_size ? item_gfid : item_bytes;
      break;
    default:
      item.type = item_bytes;
  }
  return visit(context, key, &item);
}

struct visit {
  ItemVisitor visit;
  void* context;
};

static int visit_next(dict_t* dict, char* key, data_t* data, void* context) {
  (void)dict;
  const struct visit* visit = context;
  return data == NULL || visit_item(key, data, visit->visit, visit->context) ? 0 : -1;
}

bool graph_dict_visit(dict_t* dict, const char* key, ItemVisitor visit, void* context) {
  if (key == NULL) {
    struct visit all = {visit, context};
    return dict_foreach(dict, visit_next, &all) >= 0;
  }
  data_t* data = NULL;
  if (dict_get_with_ref(dict, (char*)key, &data) != 0 || data == NULL) return false;
  bool taken = visit_item(key, data, visit, context);
  data_unref(data);
  return taken;
}

int graph_dict_set(dict_t* dict, const char* key, const Item* item) {
  char* name = (char*)key;
  int result;
  switch (item->type) {
    case item_signed:
      result = dict_set_int64(dict, name, item->number);
      break;
    case item_unsigned:
      result = dict_set_uint64(dict, name, (uint64_t)item->number);
      break;
    case item_real:
      result = dict_set_double(dict, name, item->real);
      break;
    case item_text:
      result = dict_set_dynstr_with_alloc(dict, name, item->data);
      break;
    default: {
      // The dict frees it as GlusterFS's memory.
      char* copy = GF_MALLOC(item->size != 0 ? item->size : 1, gf_common_mt_char);
      if (copy == NULL) return ENOMEM;
      if (item->size != 0) memcpy(copy, item->data, item->size);
      result = item->type == item_gfid ? dict_set_gfuuid(dict, name, (unsigned char*)copy, false)
                                       : dict_set_bin(dict, name, copy, item->size);
      if (result != 0) GF_FREE(copy);
    }
  }
  return result == 0 ? 0 : result < 0 ? -result : ENOMEM;
}

void graph_dict_delete(dict_t* dict, const char* key) { dict_del(dict, (char*)key); }

struct iobref* graph_buffer(size_t size, struct iovec* vector) {
  struct iobuf* buffer = iobuf_get2(THIS->ctx->iobuf_pool, size != 0 ? size : 1);
  if (buffer == NULL) return NULL;
  struct iobref* reference = iobref_new();
  if (reference != NULL && iobref_add(reference, buffer) != 0) {
    iobref_unref(reference);
    reference = NULL;
  }
  vector->iov_base = iobuf_ptr(buffer);
  vector->iov_len = size;
  iobuf_unref(buffer);
  return reference;
}

gf_dirent_t* graph_dirents_new(void) {
  gf_dirent_t* head = calloc(1, sizeof *head);
  if (head != NULL) INIT_LIST_HEAD(&head->list);
  return head;
}

gf_dirent_t* graph_dirents_next(gf_dirent_t* head, gf_dirent_t* entry) {
  gf_dirent_t* next = entry != NULL ? entry->next : head->next;
  return next != head ? next : NULL;
}

void graph_dirent(gf_dirent_t* entry, DirentFacts* facts) {
  *facts = (DirentFacts){entry->d_name,  entry->d_ino, entry->d_off, entry->d_type,
                         &entry->d_stat, entry->dict,  entry->inode};
}

gf_dirent_t* graph_dirent_new(const DirentFacts* facts) {
  gf_dirent_t* entry = gf_dirent_for_name(facts->name);
  if (entry == NULL) return NULL;
  entry->d_ino = facts->ino;
  entry->d_off = facts->offset;
  entry->d_type = facts->type;
  if (facts->stat != NULL) entry->d_stat = *facts->stat;
  if (facts->dict != NULL) entry->dict = dict_ref(facts->dict);
  if (facts->inode != NULL) entry->inode = inode_ref(facts->inode);
  return entry;
}

bool graph_dirents_add(gf_dirent_t* head, gf_dirent_t* entry) {
  gf_dirent_t* copy = entry_copy(entry);
  if (copy != NULL) list_add_tail(&copy->list, &head->list);
  return copy != NULL;
}

void graph_dirent_free(gf_dirent_t* entry) { gf_dirent_entry_free(entry); }

struct gf_flock* graph_flock_new(void) {
  return calloc(1, sizeof(struct gf_flock));
}

void graph_flock(const struct gf_flock* flock, FlockFacts* facts) {
  *facts = (FlockFacts){.type = flock->l_type,
                        .whence = flock->l_whence,
                        .start = flock->l_start,
                        .length = flock->l_len,
                        .pid = flock->l_pid,
                        .owner = flock->l_owner.data,
                        .owner_size = flock->l_owner.len > 0 ? (size_t)flock->l_owner.len : 0};
}

void graph_set_flock(struct gf_flock* flock, const FlockFacts* facts) {
  flock->l_type = (short)facts->type;
  flock->l_whence = (short)facts->whence;
  flock->l_start = facts->start;
  flock->l_len = facts->length;
  flock->l_pid = facts->pid;
}
