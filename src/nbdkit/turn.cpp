// SPDX-License-Identifier: BSD-3-Clause
// One lock for all callbacks of a door.
#include "turn.hpp"

#include <mutex>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace nbdkit_python {
namespace {

bool needed = false;
// Recursive, since one callback may lead to another in the same thread: a zero to a pwrite, a translator to the next.
// Never destroyed: a server that fails to start calls exit().
std::recursive_mutex& turns = *new std::recursive_mutex;

}  // namespace

Turn::Turn() noexcept {
  if (needed) turns.lock();
}

Turn::~Turn() {
  if (needed) turns.unlock();
}

int Turn::settle(int thread_model) noexcept {
  needed = thread_model == NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS;
  return needed ? NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS : thread_model;
}

}  // namespace nbdkit_python
