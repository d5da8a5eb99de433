// SPDX-License-Identifier: BSD-3-Clause
// Preloaded into nbdkit: a thread that it starts for a client comes to run when nbdkit, told to end, has found that
// there is none; nbdkit goes on when this thread has greeted its client; and the end of the process takes a while. A
// slow machine can do all that by itself.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool started, ending, greeted;

static void set(bool* what) {
  pthread_mutex_lock(&lock);
  *what = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

static void wait_for(const bool* what) {
  pthread_mutex_lock(&lock);
  while (!*what) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
}

struct start {
  void* (*run)(void*);
  void* data;
};

static void* run_late(void* data) {
  const struct start start = *(struct start*)data;
  free(data);
  wait_for(&ending);
  return start.run(start.data);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* data) {
  int (*create)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = dlsym(RTLD_NEXT, "pthread_create");
  struct start* start = malloc(sizeof *start);
  *start = (struct start){run, data};
  set(&started);
  dprintf(STDERR_FILENO, "late: a thread is started\n");
  return create(thread, attributes, run_late, start);
}

ssize_t send(int fd, const void* data, size_t size, int flags) {
  const ssize_t sent = sendto(fd, data, size, flags, NULL, 0);
  set(&greeted);
  return sent;
}

// Having found no thread, nbdkit closes the socket on which it has listened.
int close(int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, "close");
  int listens = 0;
  socklen_t size = sizeof listens;
  if (started && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens) {
    set(&ending);
    wait_for(&greeted);
  }
  return real(fd);
}

__attribute__((destructor)) static void end_slowly(void) {
  if (started) usleep(200000);
}
