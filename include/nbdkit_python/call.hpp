// SPDX-License-Identifier: BSD-3-Clause
// Call: one callback of a script, from the server's thread into Python and back.
//
//     Call call{script, id};
//     if (Ref answer = call.invoke(handle, count, offset))
//       if (auto size = to_int(answer.get(), 0, INT64_MAX)) return *size;
//     call.fail();
//     return -1;
#pragma once

#include <array>
#include <cstddef>

#include "attach.hpp"
#include "convert.hpp"
#include "script.hpp"

namespace nbdkit_python {

class [[nodiscard]] Call : Attach {
 public:
  // Attaches the thread, and is its current call until the end of the block.
  Call(const Script& script, std::size_t id) noexcept : script_{script}, id_{id}, outer_{thread_.call} {
    thread_.call = this;
  }
  ~Call() {
    if (thread_.forked) [[unlikely]]
      leave();
    thread_.call = outer_;
  }

  // This thread's, or null. Needs no attachment.
  static Call* current() noexcept { return Thread::current().call; }

  // Calls the script's callback, which must be there, with these positional arguments.
  template <typename... Arguments>
  Ref invoke(const Arguments&... arguments) noexcept {
    const std::array<Ref, sizeof...(arguments)> owned{to_python(arguments)...};
    // CPython may use the place before the first argument: that saves a bound method a copy.
    std::array<PyObject*, sizeof...(arguments) + 1> stack{};
    for (std::size_t i = 0; i < owned.size(); ++i) {
      if (!owned[i]) return {};
      stack[i + 1] = owned[i].get();
    }
    return Ref::take(PyObject_Vectorcall(script_.callback(id_), stack.data() + 1,
                                         owned.size() | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
  }

  // The pending exception ends the request: it is logged, and its errno given to the server. The result is that errno.
  int fail() noexcept;
  // Whether the script has said with set_error(EOPNOTSUPP) that the server should do it in another way.
  bool declined() const noexcept;
  // As fail(), but where the script declines, by set_error() or by an exception: then nothing is logged, and the result
  // is EOPNOTSUPP.
  int fail_or_decline() noexcept;

  // nbdkit.set_error() in this call; 0 takes it back.
  void set_error(int err) noexcept { set_error_ = err; }
  const Script& script() const noexcept { return script_; }
  const char* name() const noexcept { return script_.callbacks()[id_].name; }

 private:
  // Ends this process, a child that the script forked: the server is its parent, which has the client.
  [[noreturn]] void leave() const noexcept;

  const Script& script_;
  const std::size_t id_;
  Call* const outer_;
  int set_error_ = 0;
};

}  // namespace nbdkit_python
