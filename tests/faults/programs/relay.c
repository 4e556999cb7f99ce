/* relay A B MS: what comes in on NIC A leaves on NIC B, MS milliseconds later, and the other way round.
 *
 * A long cable where the kernel has no netem. NICs without offloads of checksums and segmentation only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { FRAMES = 16384, LONGEST = 2048 };

struct frame { long long due; ssize_t size; char data[LONGEST]; };
struct way { int from, to; long long delay; struct frame *frames; };

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int nic(const char *name) {
    int one = 1, size = 8 << 20, fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    struct sockaddr_ll where = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(name)};
    struct packet_mreq all = {.mr_ifindex = where.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
    if (fd < 0 || !where.sll_ifindex || bind(fd, (struct sockaddr *)&where, sizeof where) ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
        setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all)) {
        perror(name);
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    return fd;
}

static void *carry(void *given) {
    struct way *way = given;
    unsigned long first = 0, next = 0;
    for (;;) {
        long long wait = first < next ? way->frames[first % FRAMES].due - now() : 1000000000LL;
        if (wait > 0) {
            struct timespec rest = {wait / 1000000000LL, wait % 1000000000LL};
            struct pollfd input = {way->from, POLLIN, 0};
            ppoll(&input, 1, &rest, NULL);
        }
        while (next - first < FRAMES) {
            struct frame *free = &way->frames[next % FRAMES];
            free->size = recv(way->from, free->data, LONGEST, MSG_DONTWAIT | MSG_TRUNC);
            if (free->size < 0) break;
            free->due = now() + way->delay;
            if (free->size <= LONGEST) next++;
        }
        while (first < next && way->frames[first % FRAMES].due <= now()) {
            struct frame *due = &way->frames[first++ % FRAMES];
            send(way->to, due->data, due->size, MSG_DONTWAIT); /* a full queue loses it, as queues do */
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    int a = nic(argv[1]), b = nic(argv[2]);
    struct way ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        ways[i].delay = atof(argv[3]) * 1e6;
        ways[i].frames = calloc(FRAMES, sizeof(struct frame));
        if (!ways[i].frames || (i && pthread_create(&thread, NULL, carry, &ways[1]))) return 1;
    }
    puts("ready");
    fflush(stdout);
    carry(&ways[0]);
    return 0;
}
