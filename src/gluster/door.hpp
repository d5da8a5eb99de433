// SPDX-License-Identifier: BSD-3-Clause
// What the files of this door share: an instance of the translator, and what it works with.
#pragma once

#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "contexts.hpp"
#include "graph.h"
#include "nbdkit_python/attach.hpp"
#include "nbdkit_python/ref.hpp"
#include "nbdkit_python/server.hpp"
#include "workers.hpp"

namespace nbdkit_python::gluster {

// life.cpp

// Runs this in the thread that has started Python, which is the door's own and stays: GlusterFS starts and ends
// translators in whatever thread it likes. With no exception of C++'s, and with no Python attached on either side.
void at_home(const std::function<void()>& task);
// Logs, by the name of the translator that the thread works for.
void complain(int fop, const std::string& message) noexcept;
// The server that the core speaks to.
const Server& gluster_server() noexcept;

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
  std::mutex events;                             // guards the next one
  std::unordered_map<const xlator_t*, bool> up;  // whether a child is; nothing is known of those that are not there
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
  PyTypeObject* gfid;                                             // glusterfs.Gfid, a str
  PyObject* error;                                                // glusterfs.Error
  PyObject* expired;                                              // glusterfs.Expired
  PyObject* answers;                                              // a tuple: the answers' types, by fop
};
extern Types types;

}  // namespace nbdkit_python::gluster
