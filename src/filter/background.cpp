// SPDX-License-Identifier: BSD-3-Clause
// The start and end of a connection without a client, and where it may be used.
#include "background.hpp"

#include "nbdkit_python/call.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::filter {
namespace {

// Whether this is the thread of the loop behind `async def`, if there is one.
bool on_loop() noexcept {
  PyObject* const loop = interpreter::loop();
  const Ref here = loop != nullptr ? Ref::take(PyObject_CallMethod(loop, "is_here", nullptr)) : Ref{};
  PyErr_Clear();
  return here.get() == Py_True;
}

}  // namespace

int Background::thread_model_ = NBDKIT_THREAD_MODEL_PARALLEL;

bool Background::start(bool readonly, const std::string& export_name) noexcept {
  if (!open(readonly, export_name)) return false;
  if (next_->prepare(next_) == 0) {
    if (prepare(next_)) return true;
    next_->finalize(next_);
  }
  close();
  close_bottom();
  return false;
}

void Background::end() noexcept {
  finalize();
  next_->finalize(next_);
  close();
  close_bottom();
}

const char* Background::forbidden() noexcept {
  if (on_loop()) return "it would keep asyncio's loop waiting: call it with asyncio.to_thread()";
  switch (thread_model_) {
    case NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS:
      return "this server serves one connection at a time, and this would be another";
    case NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS:
      return Call::current() != nullptr ? nullptr
                                        : "this server serves one request at a time: it can be used in callbacks only";
    default:
      return nullptr;
  }
}

bool Background::open_bottom(bool readonly, const char* export_name) noexcept {
  constexpr int shared = 1;
  next_ = nbdkit_next_context_open(backend_, readonly ? 1 : 0, export_name, shared);
  return next_ != nullptr;
}

void Background::close_bottom() noexcept { nbdkit_next_context_close(std::exchange(next_, nullptr)); }

}  // namespace nbdkit_python::filter
