// SPDX-License-Identifier: BSD-3-Clause
// The door's own threads: a script that waits for its child's answer waits here, never in a thread of GlusterFS's.
//
// There is a thread for each request that is at work, since each may wait for another: for a lock that a later request
// lets go, say. One that has had nothing to do for a while ends.
#include "door.hpp"

namespace nbdkit_python::gluster {

bool Workers::post(Job* job) noexcept {
  const std::lock_guard lock{mutex_};
  if (idle_ <= jobs_.size()) {
    if (graph_thread(work, this) == 0)
      ++threads_;
    else if (threads_ == 0)
      return false;
  }
  jobs_.push_back(job);
  wake_.notify_one();
  return true;
}

bool Workers::stop(std::chrono::seconds patience) noexcept {
  std::unique_lock lock{mutex_};
  stopping_ = true;
  wake_.notify_all();
  return ended_.wait_for(lock, patience, [&] { return threads_ == 0; });
}

void* Workers::work(void* workers) noexcept {
  constexpr std::chrono::seconds patience{10};
  Workers& self = *static_cast<Workers*>(workers);
  std::unique_lock lock{self.mutex_};
  for (;;) {
    ++self.idle_;
    self.wake_.wait_for(lock, patience, [&] { return !self.jobs_.empty() || self.stopping_; });
    --self.idle_;
    if (self.jobs_.empty()) break;
    Job* const job = self.jobs_.front();
    self.jobs_.pop_front();
    lock.unlock();
    graph_set_this(job->instance->xl);
    job->run(job);
    lock.lock();
  }
  --self.threads_;
  // Notified under the lock: who waits may free all this next.
  self.ended_.notify_all();
  return nullptr;
}

}  // namespace nbdkit_python::gluster
