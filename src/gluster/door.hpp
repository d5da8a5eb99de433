// SPDX-License-Identifier: BSD-3-Clause
// What the files of this door share: an instance of the translator, and its requests.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph.h"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/ref.hpp"
#include "nbdkit_python/server.hpp"

namespace nbdkit_python::gluster {

struct Instance;

// life.cpp

// Runs this in the thread that has started Python, which is the door's own and stays: GlusterFS starts and ends
// translators in whatever thread it likes. With no exception of C++'s, and with no Python attached on either side.
void at_home(const std::function<void()>& task);

// workers.cpp: threads for what may have to wait.

// One request, or one answer, for a worker.
struct Job {
  void (*run)(Job* owned) noexcept;
  Instance* instance;
  call_frame_t* frame;  // of a request
  void* asker;          // of an answer: what waits for it
  int fop;
  std::int32_t ret;
  std::int32_t err;
  Value values[max_values];  // held
};

class Workers {
 public:
  // Takes the job if true; false: there can be no thread for it.
  bool post(Job* job) noexcept;
  // Whether all threads have ended within so many seconds, for which they must have nothing to do. Needs to be
  // detached.
  bool stop(int seconds) noexcept;

 private:
  static void* work(void* workers) noexcept;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> jobs_;  // first come, first served
  std::size_t idle_ = 0;
  std::vector<pthread_t> threads_;
  bool stopping_ = false;
};

// What a script has noted at inodes and fds: GlusterFS keeps a number there.
class Contexts {
 public:
  // All but forget need attachment.
  PyObject* get(std::uint64_t number) const noexcept;  // borrowed; None where there is none
  // The number for a new one, or 0: Python's error indicator is set.
  std::uint64_t add(PyObject* object) noexcept;
  void set(std::uint64_t number, PyObject* object) noexcept;
  // Lets those go that GlusterFS has forgotten.
  void sweep() noexcept;
  void clear() noexcept;
  // From any thread, with whatever locks of GlusterFS's: so it does not wait for Python.
  void forget(std::uint64_t number) noexcept;

 private:
  std::unordered_map<std::uint64_t, Ref> objects_;
  std::uint64_t last_ = 0;
  std::mutex mutex_;
  std::vector<std::uint64_t> forgotten_;
  std::atomic<bool> any_forgotten_ = false;
};

// What the script has for one file operation; frozen once it is loaded.
struct Handlers {
  Ref direct;  // readv(next, …), which returns the answer
  Ref fop;     // readv_fop(frame, this, …), which winds or unwinds
  Ref answer;  // readv_cbk(frame, cookie, this, op_ret, op_errno, …)
};

struct Instance {
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }  // NOLINT(cppcoreguidelines-no-malloc)
  };

  xlator_t* xl;
  std::unique_ptr<void, Free> fops;  // the functions that GlusterFS has for it
  Ref translator;
  Ref children;  // a tuple of Child
  std::array<Handlers, fop_count> handlers;
  Contexts contexts;
  Workers workers;
  std::atomic<unsigned> open = 0;      // requests that wait for their answer, and calls of the script
  std::atomic<unsigned> exported = 0;  // views of data that the script still has
  std::atomic<bool> ending = false;
};

// Until the end of the block, this thread does without Python, and works for the translator: what GlusterFS runs may
// come back here.
class [[nodiscard]] Away {
 public:
  explicit Away(const Instance& instance) noexcept : this_{graph_set_this(instance.xl)} {}
  ~Away() { graph_set_this(this_); }
  Away(const Away&) = delete;
  Away& operator=(const Away&) = delete;

 private:
  Detach detach_;
  xlator_t* this_;
};

// request.cpp

// One request of GlusterFS's, as scripts see it. Whoever lets the last reference go answers it, if nobody has.
struct Frame {
  PyObject_HEAD Instance* instance;
  call_frame_t* frame;  // null: answered
  int fop;
  int pending;   // children that are asked and have not answered
  int deferred;  // the errno to answer with once they have, or 0
  PyObject* local;
  std::vector<PyObject*>* views;  // owned; what expires with the answer
};

inline PyObject* object(void* python) noexcept { return static_cast<PyObject*>(python); }

// The types that module.cpp shows. Never destroyed: threads may serve while the process ends.
struct Types {
  PyTypeObject *loc, *fd, *inode, *dict, *data, *dirent, *locks;  // view.cpp
  PyTypeObject *iatt, *flock, *lease, *statvfs;                   // plain.cpp
  PyTypeObject *frame, *next, *child, *translator;                // request.cpp
  PyObject* error;                                                // glusterfs.Error
  PyObject* expired;                                              // glusterfs.Expired
  PyObject* answers;                                              // a tuple: the answers' types, by fop
};
extern Types types;
bool make_view_types() noexcept;
bool make_plain_types() noexcept;
bool make_request_types() noexcept;

// A translator object's instance, or null with Python's error indicator set.
Instance* instance_of(PyObject* translator) noexcept;
void set_instance(PyObject* translator, Instance* instance) noexcept;
Ref make_child(xlator_t* xl) noexcept;

// Logs, by the name of the translator that the thread works for.
void complain(int fop, const std::string& message) noexcept;
// The server that the core speaks to.
const Server& gluster_server() noexcept;

// view.cpp: what refers to an object of GlusterFS's, which is held until the request is answered.

struct View {
  PyObject_HEAD Frame* frame;  // null: expired, or the script's own
  Instance* instance;          // null: the script's own
  unsigned pins;               // uses that must end before what it holds can go
  bool expired;
  Value value;
  Value count;  // these two: of data
  Value iobref;
  PyObject* joined;  // data of several buffers, as one
};

// A view of a held value, which it takes over in any case. `value` is followed by the other two of data.
Ref make_view(Frame* frame, Kind kind, const Value& value, const Value& count = {}, const Value& iobref = {}) noexcept;
// Whether it can still be used. False: Python's error indicator is set.
bool is_alive(View* view) noexcept;
void pin(View* view) noexcept;
void unpin(View* view) noexcept;
// From now on, to use it is an error.
void expire(View* view) noexcept;
Ref gfid_text(const std::uint8_t* gfid) noexcept;
// A str for GlusterFS's text, which can be of any bytes; None for null.
Ref text_or_none(const char* text) noexcept;
// An Item of this object: an int, float, bool, str or bytes-like. False: Python's error indicator is set.
//   keep: what must outlive the item
bool to_item(PyObject* object, Item* item, Ref* keep) noexcept;

// plain.cpp: what is the script's own copy.

Ref make_iatt(const struct iatt& iatt) noexcept;
const struct iatt& iatt_of(PyObject* iatt) noexcept;
Ref make_flock(const struct gf_flock* flock) noexcept;
struct gf_flock* flock_of(PyObject* flock) noexcept;
Ref make_lease(const struct gf_lease& lease) noexcept;
struct gf_lease* lease_of(PyObject* lease) noexcept;
Ref make_statvfs(const struct statvfs& statvfs) noexcept;
struct statvfs* statvfs_of(PyObject* statvfs) noexcept;

// fields.cpp: arguments and answers, both ways.

// How many of these fields are a parameter of Python's.
int visible(std::span<const Field> fields) noexcept;
// Python's objects for held values, which are taken over in any case. False: Python's error indicator is set.
bool incoming(Frame* frame, std::span<const Field> fields, Value* held, Ref* objects) noexcept;

// Values made of Python's objects, good until the end of the block.
class Outgoing {
 public:
  // What stands at the fields' places. True where all of it fits.
  //   what: the function or answer, for the error
  //   needed: whether what GlusterFS relies on must be there: not in an answer that is an error
  bool fill(const char* what, std::span<const Field> fields, PyObject* const* objects, bool needed) noexcept;
  ~Outgoing();
  Outgoing() noexcept = default;
  Outgoing(const Outgoing&) = delete;
  Outgoing& operator=(const Outgoing&) = delete;

  const Value* values() const noexcept { return values_.data(); }
  // What op_ret is where the answer itself tells: the bytes or entries in it; else -1.
  std::int64_t length() const noexcept { return length_; }

 private:
  bool fill_one(const std::string& where, std::span<const Field> fields, std::size_t i, PyObject* object,
                bool needed) noexcept;
  bool dict(const std::string& where, PyObject* object, Value* value) noexcept;
  bool data(const std::string& where, std::span<const Field> fields, PyObject* object, Value* value) noexcept;
  bool entries(const std::string& where, PyObject* object, Value* value) noexcept;
  const struct iatt* copy(PyObject* iatt) noexcept;
  void use(PyObject* view) noexcept;
  Value* find(std::span<const Field> fields, Kind kind) noexcept;

  std::array<Value, max_values> values_{};
  std::array<std::array<std::uint64_t, 24>, 5> iatts_;  // room for as many as an answer has
  std::size_t iatt_count_ = 0;
  struct iovec vector_ {};
  std::array<std::uint8_t, checksum_size> checksum_{};
  std::int64_t length_ = -1;
  std::vector<PyObject*> used_;               // views that are pinned, owned
  std::vector<Ref> kept_;                     // what the values point into
  std::vector<std::pair<Field, Value>> own_;  // to be dropped
};

}  // namespace nbdkit_python::gluster
