// SPDX-License-Identifier: BSD-3-Clause
// The one Python interpreter of the process: start, fork, finish.
//
// It is counted, because two doors can be open in one server; the last holder ends it.
#pragma once

#include "ref.hpp"
#include "server.hpp"

namespace nbdkit_python {

// What the core needs of the `nbdkit` package; valid while the interpreter is held.
struct Package {
  Ref error;         // nbdkit.Error
  Ref script_error;  // nbdkit._errors.ScriptError
  Ref script;        // the module nbdkit._script
  Ref process;       // the module nbdkit._process
};

namespace interpreter {

// The interface of this header's build: a door compares the core's with its own before anything else, since both
// could have been installed at different times.
const char* build() noexcept;

// Starts the interpreter, or adds a holder. False: it could not be started, and the server's log says why. The
// calling thread must be the server's main thread; it is left detached. `server` must live as long as the process.
bool hold(const Server& server) noexcept;
// Ends a holder's share, and with the last one the interpreter. Never waits for a script's threads: while any of
// them is alive, atexit hooks run and streams are flushed, and the rest is left to the end of the process.
void release() noexcept;

// The server that scripts without a call of their own (a thread, an import) speak to: the first holder's.
const Server& server() noexcept;
const Package& package() noexcept;
// The module nbdkit._loop, once a script has a callback that is `async def`; null before. Borrowed; needs attachment.
PyObject* loop() noexcept;

// Between these two, in the main thread, a fork() is the server going into the background, and Python is taken
// through it. They are called at the end of get_ready and at the start of after_fork, by each door in the server.
void expect_fork() noexcept;
void forked() noexcept;
// Whether forked() has been called: the server has its threads and its signal pipe.
bool serving() noexcept;

// Asks the server to end, now or as soon as it serves.
void shutdown() noexcept;

// A callback that the server calls at the end has had its call: if it is an atexit hook as well, it is not called
// again. Needs attachment.
void ran(PyObject* callback) noexcept;

// Writes out what the script printed or logged. Needs attachment.
void flush() noexcept;

}  // namespace interpreter
}  // namespace nbdkit_python
