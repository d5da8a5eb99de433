// SPDX-License-Identifier: BSD-3-Clause
// Attach: this thread may use Python until the end of the block.
//
// A server thread gets a thread state at its first attachment and keeps it until the thread ends: creating one for
// every call costs about 10 µs, and would empty the script's threading.local each time.
#pragma once

#include "python.hpp"

namespace nbdkit_python {

class Call;

// What the core keeps for each server thread.
struct Thread {
  PyThreadState* state;  // null until the first attachment
  unsigned depth;        // how many Attach blocks are open; 0: detached
  Call* call;            // the innermost callback that is running
  PyObject* lender;      // View's, kept from one request to the next
  bool forked;           // the script has forked in this callback, and this is the child

  static Thread& current() noexcept;
};

class [[nodiscard]] Attach {
 public:
  Attach() noexcept;
  ~Attach();
  Attach(const Attach&) = delete;
  Attach& operator=(const Attach&) = delete;

 protected:
  Thread& thread_;
};

// An attached thread lets go of Python until the end of the block, for a call of the server's that may come back to
// Python in this same thread: there an Attach attaches it anew. Also for a thread that Python has started.
class [[nodiscard]] Detach {
 public:
  Detach() noexcept;
  ~Detach();
  Detach(const Detach&) = delete;
  Detach& operator=(const Detach&) = delete;

 private:
  Thread& thread_;
  PyThreadState* const state_;  // the thread's before; null: Python has started the thread
  const unsigned depth_;
};

namespace threads {

// The calling thread has just started the interpreter: it is the main thread, attached, and stays so until detach.
void open() noexcept;
// From here on threads that end leave their states alone. Waits for those that are ending now, and up to a second for
// those that are about to. Needs to be detached.
void close() noexcept;
// For a thread that has come too late: the process is about to end, and the thread with it.
[[noreturn]] void stay() noexcept;
// Whether any thread but the calling one has a state: a server thread that has not ended yet, or a script's own.
// Needs attachment.
bool others() noexcept;
// Whether the script has threads of its own. Needs attachment.
bool of_script() noexcept;
// Around the server's fork, in the main thread: true if it was detached and is now attached.
bool attach_for_fork() noexcept;
void detach_after_fork() noexcept;

}  // namespace threads
}  // namespace nbdkit_python
