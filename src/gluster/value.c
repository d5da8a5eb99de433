// SPDX-License-Identifier: BSD-3-Clause
// What the door holds of GlusterFS's values: references and copies.
#include <glusterfs/dict.h>
#include <glusterfs/fd.h>
#include <glusterfs/gf-dirent.h>
#include <glusterfs/inode.h>
#include <glusterfs/iobuf.h>
#include <glusterfs/xlator.h>

#include "graph.h"

// A copy in memory of malloc's.
static void* copy_of(const void* data, size_t size) {
  void* copy = malloc(size != 0 ? size : 1);
  if (copy != NULL && size != 0) memcpy(copy, data, size);
  return copy;
}

// A loc whose name lasts as long: GlusterFS's own copy shares the name where there is no path.
struct held_loc {
  loc_t loc;
  char* name;
};

static loc_t* hold_loc(loc_t* loc) {
  struct held_loc* held = calloc(1, sizeof *held);
  if (held == NULL) return NULL;
  if (loc_copy(&held->loc, loc) != 0) {
    free(held);
    return NULL;
  }
  if (held->loc.path == NULL && loc->name != NULL) {
    held->name = strdup(loc->name);
    if (held->name == NULL) {
      loc_wipe(&held->loc);
      free(held);
      return NULL;
    }
    held->loc.name = held->name;
  }
  return &held->loc;
}

static void drop_loc(loc_t* loc) {
  struct held_loc* held = (struct held_loc*)loc;
  loc_wipe(loc);
  free(held->name);
  free(held);
}

static gf_dirent_t* hold_dirents(gf_dirent_t* head) {
  gf_dirent_t* copy = graph_dirents_new();
  if (copy == NULL) return NULL;
  for (gf_dirent_t* entry = NULL; (entry = graph_dirents_next(head, entry)) != NULL;)
    if (!graph_dirents_add(copy, entry)) {
      gf_dirent_free(copy);
      free(copy);
      return NULL;
    }
  return copy;
}

static void drop_locks(lock_migration_info_t* head) {
  lock_migration_info_t* lock;
  lock_migration_info_t* next;
  list_for_each_entry_safe(lock, next, &head->list, list) {
    free(lock->client_uid);
    free(lock);
  }
  free(head);
}

static lock_migration_info_t* hold_locks(lock_migration_info_t* head) {
  lock_migration_info_t* copy = calloc(1, sizeof *copy);
  if (copy == NULL) return NULL;
  INIT_LIST_HEAD(&copy->list);
  lock_migration_info_t* lock;
  list_for_each_entry(lock, &head->list, list) {
    lock_migration_info_t* one = copy_of(lock, sizeof *lock);
    char* client = lock->client_uid != NULL ? strdup(lock->client_uid) : NULL;
    if (one == NULL || (client == NULL && lock->client_uid != NULL)) {
      free(one);
      free(client);
      drop_locks(copy);
      return NULL;
    }
    one->client_uid = client;
    list_add_tail(&one->list, &copy->list);
  }
  return copy;
}

// A vector, its count and its iobref, whose places in the values are these. Without an iobref nobody would keep the
// memory for us, so it is copied.
static bool hold_data(Value* vector, Value* count, Value* iobref) {
  const struct iovec* old = vector->vector;
  if (old == NULL) {
    count->number = 0;
    iobref->iobref = NULL;
    return true;
  }
  if (iobref->iobref != NULL) {
    vector->vector = copy_of(old, (size_t)count->number * sizeof *old);
    if (vector->vector == NULL) return false;
    iobref_ref(iobref->iobref);
    return true;
  }
  size_t size = iov_length(old, (int)count->number);
  struct iovec* one = malloc(sizeof *one);
  if (one == NULL) return false;
  iobref->iobref = graph_buffer(size, one);
  if (iobref->iobref == NULL) {
    free(one);
    return false;
  }
  iov_unload(one->iov_base, old, (int)count->number);
  vector->vector = one;
  count->number = 1;
  return true;
}

// The length of a strong checksum is told beside it.
static uint8_t* hold_checksum(const uint8_t* checksum, dict_t* xdata) {
  uint8_t* copy = calloc(1, checksum_size);
  bool is_long = xdata != NULL && dict_get(xdata, "fips-mode-rchecksum") != NULL;
  if (copy != NULL) memcpy(copy, checksum, is_long ? checksum_size : checksum_size / 2);
  return copy;
}

// The value of this kind among them, or a place of no use.
static Value* find(const Field* fields, int count, Value* values, enum Kind kind) {
  static Value none;
  for (int i = 0; i < count; ++i)
    if (fields[i].kind == kind) return &values[i];
  none.number = 0;
  return &none;
}

static bool hold_one(const Field* fields, int count, Value* values, int i) {
  Value* value = &values[i];
  if (fields[i].kind == kind_vector)
    return hold_data(value, find(fields, count, values, kind_count), find(fields, count, values, kind_iobref));
  if (fields[i].kind >= kind_i32 || value->text == NULL) return true;
  switch (fields[i].kind) {
    case kind_loc:
      value->loc = hold_loc(value->loc);
      break;
    case kind_fd:
      fd_ref(value->fd);
      break;
    case kind_inode:
      inode_ref(value->inode);
      break;
    case kind_dict:
      dict_ref(value->dict);
      break;
    case kind_iatt:
    case kind_entry:
      value->iatt = copy_of(value->iatt, sizeof *value->iatt);
      break;
    case kind_text:
    case kind_name:
      value->text = strdup(value->text);
      break;
    case kind_dirents:
      value->dirents = hold_dirents(value->dirents);
      break;
    case kind_flock:
      value->flock = copy_of(value->flock, sizeof *value->flock);
      break;
    case kind_lease:
      value->lease = copy_of(value->lease, sizeof *value->lease);
      break;
    case kind_statvfs:
      value->statvfs = copy_of(value->statvfs, sizeof *value->statvfs);
      break;
    case kind_checksum:
      value->checksum = hold_checksum(value->checksum, values[count - 1].dict);
      break;
    case kind_locks:
      value->locks = hold_locks(value->locks);
      break;
    default:
      return true;
  }
  return value->text != NULL;
}

static void drop_one(enum Kind kind, Value value) {
  if (kind >= kind_i32 || value.text == NULL) return;
  switch (kind) {
    case kind_loc:
      drop_loc(value.loc);
      break;
    case kind_fd:
      fd_unref(value.fd);
      break;
    case kind_inode:
      inode_unref(value.inode);
      break;
    case kind_dict:
      dict_unref(value.dict);
      break;
    case kind_iobref:
      iobref_unref(value.iobref);
      break;
    case kind_dirents:
      gf_dirent_free(value.dirents);
      free(value.dirents);
      break;
    case kind_locks:
      drop_locks(value.locks);
      break;
    case kind_count:
      break;
    default:
      free((void*)value.text);
  }
}

bool graph_hold(const Field* fields, int count, Value* values) {
  // The checksum looks at the dict behind it, which a reference leaves where it is.
  for (int i = 0; i < count; ++i) {
    if (hold_one(fields, count, values, i)) continue;
    // What is not held yet is still GlusterFS's.
    for (int j = 0; j < i; ++j)
      if (fields[j].kind != kind_iobref) drop_one(fields[j].kind, values[j]);
    for (int j = 0; j < i; ++j)
      if (fields[j].kind == kind_vector) drop_one(kind_iobref, *find(fields, count, values, kind_iobref));
    return false;
  }
  return true;
}

void graph_drop(const Field* fields, int count, Value* values) {
  for (int i = 0; i < count; ++i) drop_one(fields[i].kind, values[i]);
}
