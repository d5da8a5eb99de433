// SPDX-License-Identifier: BSD-3-Clause
// Reads of 4 KiB of a file on a GlusterFS volume, by libgfapi: how many seconds they took.
//
//     gluster_reads VOLFILE THREADS READS-OF-EACH
#include <fcntl.h>
#include <glusterfs/api/glfs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static glfs_fd_t* file;
static int reads;

static void* work(void* unused) {
  char data[4096];
  for (int i = 0; i < reads; ++i)
    if (glfs_pread(file, data, sizeof data, 0, 0, NULL) != sizeof data) abort();
  return unused;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char** words) {
  if (count != 4) return 2;
  enum { most = 64 };
  pthread_t threads[most];
  const int wanted = atoi(words[2]);
  reads = atoi(words[3]);
  glfs_t* fs = glfs_new("volume");
  char data[4096] = "";
  if (wanted > most || fs == NULL || glfs_set_volfile(fs, words[1]) != 0 || glfs_init(fs) != 0) return 1;
  file = glfs_creat(fs, "/file", O_RDWR, 0644);
  if (file == NULL || glfs_pwrite(file, data, sizeof data, 0, 0, NULL, NULL) != sizeof data) return 1;
  const double start = now();
  for (int i = 0; i < wanted; ++i)
    if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 1;
  for (int i = 0; i < wanted; ++i) pthread_join(threads[i], NULL);
  printf("%f\n", now() - start);
  fflush(stdout);
  // glfs_fini() takes ten seconds.
  _exit(0);
}
