// SPDX-License-Identifier: BSD-3-Clause
// The threads of nbdkit's connections: none is at work any more when the server's end begins.
//
// nbdkit waits for them, but counts each only once it runs. One that it has just started may not be counted when it is
// told to end; then nbdkit frees what this thread is about to use, and dies of that, whatever the plugin.
#pragma once

namespace nbdkit_python::clients {

// In load: they may come.
void open() noexcept;

// In preconnect: the calling thread is a connection's until it ends. One that comes too late does not return.
void arrive() noexcept;

// In cleanup, before anything else: no more of them, and those that have come are waited for, however long their
// clients take, as nbdkit waits for those that it knows. Needs to be detached.
void close() noexcept;

}  // namespace nbdkit_python::clients
