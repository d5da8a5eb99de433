// SPDX-License-Identifier: BSD-3-Clause
// Layer: one translator on one connection.
//
// A callback that the translator does not have is passed on to what is below without a look at Python; but a request
// may be wrong for that, where the translator has changed what the client was told, so it is looked at first.
#pragma once

#include "door.hpp"

namespace nbdkit_python::filter {

class Layer final : public Level {
 public:
  Layer(const Translator& translator, Level& below) noexcept : translator_{translator}, below_{below} {}

  const Translator& translator() const noexcept { return translator_; }

  // The connection's start and end; what open() and close() of the script have to do with the levels below is the
  // connection's business. False: it has failed, and the log says why.
  void opened(Ref handle, bool readonly) noexcept {
    handle_ = std::move(handle);
    readonly_ = readonly;
  }
  bool prepare() noexcept;
  bool finalize() noexcept;
  void close() noexcept;

  const char* export_description() noexcept override;
  int block_size(std::uint32_t* minimum, std::uint32_t* preferred, std::uint32_t* maximum) noexcept override;
  int pread(void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override;
  int pwrite(const void* buf, std::uint32_t count, std::uint64_t offset, std::uint32_t flags,
             int* err) noexcept override;
  int flush(std::uint32_t flags, int* err) noexcept override;
  int trim(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override;
  int zero(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override;
  int extents(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, nbdkit_extents* list,
              int* err) noexcept override;
  int cache(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept override;

 private:
  std::int64_t ask_size() noexcept override;
  int ask(Ability ability) noexcept override;
  // The answer of a translator that has nothing to say about this ability.
  int inherited(Ability ability) noexcept;

  bool has(std::size_t callback) const noexcept { return translator_.has(callback); }
  PyObject* handle() const noexcept { return handle_ ? handle_.get() : Py_None; }
  // Whether a request may be passed on as it is; else the log says why not, and *err is set.
  bool passes(Request request, std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept;
  // A callback about this connection: convert(its answer), or empty after an error.
  template <typename Convert>
  auto ask(std::size_t callback, const Convert& convert) noexcept -> decltype(convert(nullptr));
  // A request's callback, with these arguments after `h, next`, that answers nothing: 0 or -1.
  template <typename... Arguments>
  int request(std::size_t callback, int* err, const Arguments&... arguments) noexcept;
  // Whether the script has zeroed the range: 0, -1 and *err, or empty where it declines.
  std::optional<int> zeroed(std::uint32_t count, std::uint64_t offset, std::uint32_t flags, int* err) noexcept;

  const Translator& translator_;
  Level& below_;
  Ref handle_;  // what open() has returned; empty: None
  bool readonly_ = false;
  bool prepared_ = false;
};

}  // namespace nbdkit_python::filter
