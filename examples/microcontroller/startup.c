/* What a Cortex-M4F does before `main`, for QEMU's board mps2-an386. Your own board has such a file from its maker. */

#include <stdint.h>

extern uint32_t data_from[], data_start[], data_end[], stack_top[];
void _start(void); /* of newlib: clears .bss, calls main, gives its result to whoever watches */
void reset(void);

static void stop(void) {
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    stack_top, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
};

void reset(void) {
    uint32_t *to = data_start;
    const uint32_t *from = data_from;
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit may be used */
    __asm volatile("dsb\n isb");
    while (to < data_end) *to++ = *from++;
    _start();
}
