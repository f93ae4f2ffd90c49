/* Flatten. */
#define DATA waveq_kernel_in_input
#define DATA_SHAPE waveq_kernel_in_input_shape
#define DATA_RANK WAVEQ_KERNEL_IN_INPUT_RANK
#define DATA_SIZE WAVEQ_KERNEL_IN_INPUT_SIZE
#define data_t waveq_kernel_in_input_t
#include "same_order.h"
