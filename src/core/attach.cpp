// SPDX-License-Identifier: BSD-3-Clause
// Thread states, one for each server thread, from its first callback to its end.
//
// Hazards: a server's connection threads are detached, so one may be ending while the main thread unloads the door;
// and a thread state must not be touched once the interpreter is being finalized. So a thread that ends announces
// itself, unless the registry is closed, and closing waits for those that have.
#include "nbdkit_python/attach.hpp"

#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace nbdkit_python {
namespace {

struct Registry {
  std::mutex mutex;
  std::condition_variable left;
  PyInterpreterState* interpreter = nullptr;
  bool open = false;
  unsigned states = 0;   // that we have created and not yet freed
  unsigned leaving = 0;  // of these, being freed now
};

// Never destroyed: threads may end while the process runs its exit handlers.
Registry& registry() noexcept {
  static auto* const instance = new Registry;
  return *instance;
}

// Trivial, so that to reach it costs no check for initialization; the Reaper is what has a destructor.
thread_local constinit Thread this_thread{};

struct Reaper {
  bool armed = false;
  ~Reaper() {
    if (!armed) return;
    Registry& r = registry();
    {
      const std::lock_guard lock{r.mutex};
      if (!r.open) return;
      ++r.leaving;
    }
    PyEval_RestoreThread(this_thread.state);
    Py_CLEAR(this_thread.lender);
    PyThreadState_Clear(this_thread.state);
    PyThreadState_DeleteCurrent();
    this_thread.state = nullptr;
    // Notified under the lock: once it is free, the thread that waits may unload what this one still runs in.
    const std::lock_guard lock{r.mutex};
    --r.leaving;
    --r.states;
    r.left.notify_all();
  }
};

thread_local Reaper reaper;

void create_state() noexcept {
  Registry& r = registry();
  {
    const std::lock_guard lock{r.mutex};
    if (r.open) {
      this_thread.state = PyThreadState_New(r.interpreter);
      if (this_thread.state == nullptr) Py_FatalError("nbdkit-python: no memory for a thread state");
      ++r.states;
    }
  }
  // A server may have threads of which it does not wait for the end, such as another filter's.
  if (this_thread.state == nullptr) threads::stay();
  reaper.armed = true;
}

}  // namespace

Thread& Thread::current() noexcept { return this_thread; }

Attach::Attach() noexcept : thread_{this_thread} {
  if (thread_.depth++ != 0) return;
  if (thread_.state == nullptr) [[unlikely]]
    create_state();
  PyEval_RestoreThread(thread_.state);
}

Attach::~Attach() {
  if (--thread_.depth == 0) PyEval_SaveThread();
}

Detach::Detach() noexcept : thread_{this_thread}, state_{thread_.state}, depth_{thread_.depth} {
  thread_.state = PyEval_SaveThread();
  thread_.depth = 0;
}

Detach::~Detach() {
  PyEval_RestoreThread(thread_.state);
  thread_.state = state_;
  thread_.depth = depth_;
}

namespace threads {

void open() noexcept {
  Registry& r = registry();
  const std::lock_guard lock{r.mutex};
  r.interpreter = PyInterpreterState_Get();
  r.open = true;
  // The main thread's state belongs to the interpreter: no Reaper for it.
  this_thread.state = PyThreadState_Get();
  PyEval_SaveThread();
}

void close() noexcept {
  Registry& r = registry();
  std::unique_lock lock{r.mutex};
  // The server has seen its threads out of their last callback, but they are detached and may not have ended yet.
  // With all states gone the interpreter can be finalized, which destroys, and so closes, what the script has open.
  constexpr std::chrono::seconds patience{1};
  r.left.wait_for(lock, patience, [&] { return r.states == 0; });
  r.open = false;
  r.left.wait(lock, [&] { return r.leaving == 0; });
}

void stay() noexcept {
  for (;;) pause();
}

bool others() noexcept {
  PyThreadState* const mine = PyThreadState_Get();
  for (PyThreadState* state = PyInterpreterState_ThreadHead(registry().interpreter); state != nullptr;
       state = PyThreadState_Next(state))
    if (state != mine) return true;
  return false;
}

bool of_script() noexcept {
  Registry& r = registry();
  const std::lock_guard lock{r.mutex};
  std::size_t all = 0;
  for (PyThreadState* state = PyInterpreterState_ThreadHead(r.interpreter); state != nullptr;
       state = PyThreadState_Next(state))
    ++all;
  constexpr std::size_t main_thread = 1;
  return all > r.states + main_thread;
}

bool attach_for_fork() noexcept {
  // Attached: the script itself forks, and CPython sees to it.
  if (this_thread.depth != 0 || this_thread.state == nullptr) return false;
  this_thread.depth = 1;
  PyEval_RestoreThread(this_thread.state);
  return true;
}

void detach_after_fork() noexcept {
  this_thread.depth = 0;
  PyEval_SaveThread();
}

}  // namespace threads
}  // namespace nbdkit_python
