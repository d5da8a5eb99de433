// SPDX-License-Identifier: BSD-3-Clause
// The one reporter: Python's error indicator becomes a message in the server's log and an errno.
//
// An empty Ref or optional means that the indicator is set; only these functions clear it.
#pragma once

#include <string>

#include "ref.hpp"
#include "server.hpp"

namespace nbdkit_python {

struct Failure {
  int err;              // for the client; something that NBD can express
  std::string message;  // for the log; empty where there is nothing to say
};

// The pending exception, which is pending no more; empty: there is none.
Ref take_exception() noexcept;
// Makes it the pending one again; empty: none is.
void put_back(Ref exception) noexcept;

// Takes the pending exception.
//   set_error: what the script gave to nbdkit.set_error() in this call, or 0
// errno, first that applies: nbdkit.Error's, set_error, OSError's, the exception's class, EIO.
Failure take_failure(int set_error) noexcept;
// The same with the errno as it is, for a server whose clients know them all.
Failure take_raw_failure(int set_error = 0) noexcept;

// The text of an object for the log: a str as it is (what cannot be encoded is escaped, and control characters but line
// breaks and tabs), bytes likewise, anything else through str(). Never fails, and leaves the error indicator clear.
std::string log_text(PyObject* object) noexcept;

// The type and a short form of the value, for "got …". Never fails, and leaves the error indicator clear.
std::string describe(PyObject* object) noexcept;

// Raises a ScriptError "expected …, got …": what a callback's answer should have been and what it was.
void wrong_answer(const char* expected, PyObject* got) noexcept;
// Raises a ScriptError with this text.
void script_error(const std::string& text) noexcept;

}  // namespace nbdkit_python
