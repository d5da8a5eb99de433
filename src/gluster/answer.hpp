// SPDX-License-Identifier: BSD-3-Clause
// A file operation's answer as scripts have it: a named tuple of glusterfs.answer's, or a glusterfs.Error.
#pragma once

#include <cstdint>
#include <span>

#include "fields.hpp"

namespace nbdkit_python::gluster {

// Some translators answer with an error and do not say which.
int error_number(int err) noexcept;

// The named tuple, of the fields' objects and the op_ret.
Ref make_answer(int fop, std::span<const Ref> fields, std::int32_t ret) noexcept;
// What a script's function has returned. False: Python's error indicator is set.
bool take_answer(PyObject* returned, int fop, Outgoing* outgoing, std::int32_t* ret) noexcept;

// Raises the Error for this op_errno. Null.
//   answer: what came with it, or None
PyObject* raise_error(int err, PyObject* answer) noexcept;
// What an Error that a script has raised means to answer: its errno. Never fails.
//   with_answer: whether it has an answer that can be sent
int take_error(PyObject* error, int fop, Outgoing* outgoing, bool* with_answer) noexcept;

}  // namespace nbdkit_python::gluster
