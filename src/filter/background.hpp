// SPDX-License-Identifier: BSD-3-Clause
// Background: a translator's own connection to what is below, without a client.
#pragma once

#include <mutex>

#include "../nbdkit/turn.hpp"
#include "nbdkit_python/attach.hpp"
#include "stack.hpp"

namespace nbdkit_python::filter {

class Background final : public Stack {
 public:
  Background(std::size_t translator, nbdkit_backend* backend) noexcept
      : Stack{translator + 1, false}, backend_{backend} {}

  // Opens and prepares. False: the log says why.
  bool start(bool readonly, const std::string& export_name) noexcept;
  void end() noexcept;

  // What nbdkit has settled on for the requests of its clients.
  static void set_thread_model(int model) noexcept { thread_model_ = model; }
  // Why none can be opened, or used in this thread; null where it can.
  static const char* forbidden() noexcept;

  // Until the end of the block this thread has let go of Python, and uses what is below, if that is one's (null:
  // a client's). nbdkit has no lock around what is not a client's, and leaves it to its filters to keep to the plugin's
  // thread model.
  class [[nodiscard]] Use {
   public:
    explicit Use(Background* background) noexcept : count_{background} {
      if (background == nullptr) return;
      // As in a translator's callback that comes here.
      turn_.emplace();
      if (thread_model_ < NBDKIT_THREAD_MODEL_PARALLEL) lock_ = std::unique_lock{background->mutex_};
    }

   private:
    // With Python attached, which guards it.
    struct Count {
      explicit Count(Background* b) noexcept : background{b} {
        if (background != nullptr) ++background->users_;
      }
      ~Count() {
        if (background != nullptr) --background->users_;
      }
      Count(const Count&) = delete;
      Count& operator=(const Count&) = delete;
      Background* const background;
    };
    const Count count_;
    const Detach others_run_;
    std::optional<Turn> turn_;
    std::unique_lock<std::recursive_mutex> lock_;
  };
  // Whether a thread is in a Use.
  bool used() const noexcept { return users_ > 0; }

 private:
  bool open_bottom(bool readonly, const char* export_name) noexcept override;
  void close_bottom() noexcept override;

  static int thread_model_;

  nbdkit_backend* const backend_;
  nbdkit_next* next_ = nullptr;
  std::recursive_mutex mutex_;
  unsigned users_ = 0;
};

}  // namespace nbdkit_python::filter
