// SPDX-License-Identifier: BSD-3-Clause
// Turn: one callback at a time, for scripts that want it so.
#pragma once

namespace nbdkit_python {

// Until the end of the block, the callbacks of other threads wait, if the script wants one request at a time. It comes
// before an Attach: who waits for it must not hold the GIL.
//
// nbdkit has a lock for that, but holds it through a client's handshake as well: one that connects and says nothing
// would stop all others.
class [[nodiscard]] Turn {
 public:
  Turn() noexcept;
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  // What nbdkit is to be told of a thread model that the door's scripts want; whether turns are needed follows from it.
  // Called once, before nbdkit serves.
  static int settle(int thread_model) noexcept;
};

}  // namespace nbdkit_python
