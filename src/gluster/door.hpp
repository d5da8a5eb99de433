// SPDX-License-Identifier: BSD-3-Clause
// What the files of this door share: an instance of the translator, and what it works with.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph.h"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/ref.hpp"
#include "nbdkit_python/server.hpp"

namespace nbdkit_python::gluster {

struct Cookie;
struct Instance;

// life.cpp

// Runs this in the thread that has started Python, which is the door's own and stays: GlusterFS starts and ends
// translators in whatever thread it likes. With no exception of C++'s, and with no Python attached on either side.
void at_home(const std::function<void()>& task);
// Logs, by the name of the translator that the thread works for.
void complain(int fop, const std::string& message) noexcept;
// The server that the core speaks to.
const Server& gluster_server() noexcept;

// workers.cpp: threads for what may have to wait.

// One request, or one answer, for a worker.
struct Job {
  void (*run)(Job& job) noexcept;
  Instance* instance;
  call_frame_t* frame;  // of a request
  Cookie* cookie;       // of an answer, owned
  int fop;
  std::int32_t ret;
  std::int32_t err;
  Value values[max_values];  // held
};

class Workers {
 public:
  // False: there can be no thread for it.
  bool post(std::unique_ptr<Job> job) noexcept;
  // Whether all threads have ended within so many seconds, for which they must have nothing to do. Needs to be
  // detached.
  bool stop(int seconds) noexcept;

 private:
  static void* work(void* workers) noexcept;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> jobs_;  // first come, first served
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
  Ref direct;           // readv(next, …), which returns the answer; or has its coroutine started, which will have it
  bool awaits = false;  // the latter
  Ref fop;              // readv_fop(frame, this, …), which winds or unwinds
  Ref answer;           // readv_cbk(frame, cookie, this, op_ret, op_errno, …)
};

struct Instance {
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }  // NOLINT(cppcoreguidelines-no-malloc)
  };

  const Handlers& handlers_of(int fop) const noexcept { return handlers[static_cast<std::size_t>(fop)]; }

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

// Until the end of the block, this thread works for the translator.
class [[nodiscard]] Here {
 public:
  explicit Here(const Instance& instance) noexcept : this_{graph_set_this(instance.xl)} {}
  ~Here() { graph_set_this(this_); }
  Here(const Here&) = delete;
  Here& operator=(const Here&) = delete;

 private:
  xlator_t* const this_;
};

// Until the end of the block, this thread does without Python, and works for the translator: what GlusterFS runs may
// come back here.
class [[nodiscard]] Away {
 public:
  explicit Away(const Instance& instance) noexcept : here_{instance} {}

 private:
  Detach detach_;
  Here here_;
};

inline PyObject* object(void* python) noexcept { return static_cast<PyObject*>(python); }

// What module.cpp shows, and what it takes from the package. Never destroyed: threads may serve while the process ends.
struct Types {
  PyTypeObject *loc, *fd, *inode, *locks, *dict, *data, *dirent;  // view.hpp
  PyTypeObject *iatt, *flock, *lease, *statvfs;                   // plain.hpp
  PyTypeObject* frame;                                            // frame.hpp
  PyTypeObject *next, *async_next, *child, *translator;           // next.hpp
  PyObject* error;                                                // glusterfs.Error
  PyObject* expired;                                              // glusterfs.Expired
  PyObject* answers;                                              // a tuple: the answers' types, by fop
};
extern Types types;

}  // namespace nbdkit_python::gluster
