// SPDX-License-Identifier: BSD-3-Clause
// A client that keeps a server busy, and measures it.
//
//     client SOCKET OPERATION SIZE DEPTH CONNECTIONS SECONDS
//
// OPERATION is read, write, zero, mix (40 % reads, 40 % writes, 10 % zeros, 10 % flushes), or fill, which writes the
// disk once. SIZE is that of a request in bytes, DEPTH how many are under way on each of the CONNECTIONS. It tells the
// requests, the seconds, and the median and 99th percentile of a request's microseconds.
#include <libnbd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Task {
  std::string socket, operation;
  std::uint64_t size, depth;
  double seconds;
};

[[noreturn]] void give_up() {
  std::fprintf(stderr, "%s\n", nbd_get_error());
  std::exit(EXIT_FAILURE);
}

template <typename Number>
Number checked(Number result) {
  if (result == -1) give_up();
  return result;
}

// One connection: DEPTH requests, each of which is sent again, at another place, when it has its answer.
class Connection {
 public:
  Connection(const Task& task, unsigned seed) : task_{task}, h_{nbd_create()}, random_{seed} {
    if (h_ == nullptr) give_up();
    checked(nbd_connect_unix(h_, task.socket.c_str()));
    blocks_ = static_cast<std::uint64_t>(checked(nbd_get_size(h_))) / task.size;
    requests_.reserve(task.depth);
    for (std::uint64_t i = 0; i < task.depth; ++i)
      requests_.push_back({this, std::vector<char>(task.size, static_cast<char>(i + 1)), {}});
  }
  Connection(const Connection&) = delete;
  ~Connection() {
    nbd_shutdown(h_, 0);
    nbd_close(h_);
  }

  void run() {
    end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{task_.seconds});
    for (Request& request : requests_) send(request);
    while (nbd_aio_in_flight(h_) > 0) {
      checked(nbd_poll(h_, -1));
      // Not by the callback: libnbd must not be called there.
      for (Request* const request : answered_)
        if (!over()) send(*request);
      answered_.clear();
    }
  }

  std::vector<float> microseconds;

 private:
  struct Request {
    Connection* connection;
    std::vector<char> data;
    Clock::time_point begin;
  };

  bool over() const { return task_.operation == "fill" ? filled_ == blocks_ : Clock::now() >= end_; }

  static int done(void* user, int* error) {
    auto& request = *static_cast<Request*>(user);
    if (*error != 0) {
      std::fprintf(stderr, "a request has failed: errno %d\n", *error);
      std::exit(EXIT_FAILURE);
    }
    Connection& self = *request.connection;
    const std::chrono::duration<float, std::micro> taken = Clock::now() - request.begin;
    self.microseconds.push_back(taken.count());
    self.answered_.push_back(&request);
    return 1;  // libnbd need not remember it
  }

  void send(Request& request) {
    const auto& kind = task_.operation;
    if (kind == "fill") {
      if (filled_ < blocks_) write(request, filled_++ * task_.size);
      return;
    }
    const std::uint64_t offset = random_() % blocks_ * task_.size;
    const unsigned die = kind == "mix" ? random_() % 10 : 0;
    request.begin = Clock::now();
    if (kind == "read" || (kind == "mix" && die < 4))
      checked(nbd_aio_pread(h_, request.data.data(), task_.size, offset, telling(request), 0));
    else if (kind == "write" || (kind == "mix" && die < 8))
      write(request, offset);
    else if (kind == "zero" || die < 9)
      checked(nbd_aio_zero(h_, task_.size, offset, telling(request), 0));
    else
      checked(nbd_aio_flush(h_, telling(request), 0));
  }

  void write(Request& request, std::uint64_t offset) {
    checked(nbd_aio_pwrite(h_, request.data.data(), task_.size, offset, telling(request), 0));
  }

  static nbd_completion_callback telling(Request& request) {
    return {.callback = done, .user_data = &request, .free = nullptr};
  }

  const Task& task_;
  nbd_handle* const h_;
  std::mt19937 random_;
  std::uint64_t blocks_ = 0, filled_ = 0;
  Clock::time_point end_;
  std::vector<Request> requests_;
  std::vector<Request*> answered_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fputs("usage: client SOCKET OPERATION SIZE DEPTH CONNECTIONS SECONDS\n", stderr);
    return EXIT_FAILURE;
  }
  const Task task{argv[1], argv[2], std::stoull(argv[3]), std::stoull(argv[4]), std::stod(argv[6])};
  std::vector<std::vector<float>> all(std::stoul(argv[5]));
  std::vector<std::thread> threads;
  const auto begin = Clock::now();
  for (std::size_t i = 0; i < all.size(); ++i)
    threads.emplace_back([&, i] {
      Connection connection{task, static_cast<unsigned>(i)};
      connection.run();
      all[i] = std::move(connection.microseconds);
    });
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> taken = Clock::now() - begin;
  std::vector<float> times;
  for (const auto& some : all) times.insert(times.end(), some.begin(), some.end());
  std::ranges::sort(times);
  const auto percentile = [&](std::size_t percent) { return times[(times.size() - 1) * percent / 100]; };
  std::printf("%zu %.6f %.2f %.2f\n", times.size(), taken.count(), percentile(50), percentile(99));
}
