// SPDX-License-Identifier: BSD-3-Clause
// The door's own threads: a script that waits for its child's answer waits here, never in a thread of GlusterFS's.
//
// There is a thread for each request that is at work, since each may wait for another: for a lock that a later request
// lets go, say. One that has had nothing to do for a while ends.
#include "workers.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <utility>

#include "door.hpp"

namespace nbdkit_python::gluster {

bool Workers::post(std::unique_ptr<Job> job) noexcept {
  const std::lock_guard lock{mutex_};
  if (idle_ <= jobs_.size()) {
    pthread_t thread{};
    if (graph_thread(&thread, work, this))
      threads_.push_back(thread);
    else if (threads_.empty())
      return false;
  }
  jobs_.push_back(std::move(job));
  wake_.notify_one();
  return true;
}

bool Workers::stop(int seconds) noexcept {
  std::vector<pthread_t> threads;
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    threads.swap(threads_);
    wake_.notify_all();
  }
  // Joined, since what GlusterFS has for each thread goes with the thread, and the graph's memory goes next.
  timespec end{};
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += seconds;
  return std::ranges::all_of(threads,
                             [&](pthread_t thread) { return pthread_timedjoin_np(thread, nullptr, &end) == 0; });
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
    const std::unique_ptr<Job> job = std::move(self.jobs_.front());
    self.jobs_.pop_front();
    lock.unlock();
    graph_set_this(job->instance->xl);
    job->run(*job);
    lock.lock();
  }
  if (!self.stopping_) {
    std::erase_if(self.threads_, [](pthread_t thread) { return pthread_equal(thread, pthread_self()) != 0; });
    pthread_detach(pthread_self());
  }
  return nullptr;
}

}  // namespace nbdkit_python::gluster
