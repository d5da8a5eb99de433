// SPDX-License-Identifier: BSD-3-Clause
// Threads for what may have to wait.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "graph.h"

namespace nbdkit_python::gluster {

struct Cookie;
struct Instance;

// One request, or one answer, for a worker.
struct Job {
  void (*run)(Job& job) noexcept;
  Instance* instance;
  call_frame_t* frame;  // of a request
  Cookie* cookie;       // of an answer, owned
  int fop;
  std::int32_t ret;
  std::int32_t err;
  Value values[max_values];  // held
};

class Workers {
 public:
  // False: there can be no thread for it.
  bool post(std::unique_ptr<Job> job) noexcept;
  // Whether all threads have ended within so many seconds, for which they must have nothing to do. Needs to be
  // detached.
  bool stop(int seconds) noexcept;

 private:
  static void* work(void* workers) noexcept;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> jobs_;  // first come, first served
  std::size_t idle_ = 0;
  std::vector<pthread_t> threads_;
  bool stopping_ = false;
};

}  // namespace nbdkit_python::gluster
