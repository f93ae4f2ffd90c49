/* Mean along axes, in the input's type. */
#define DATA waveq_kernel_in_data
#define DATA_SHAPE waveq_kernel_in_data_shape
#define DATA_RANK WAVEQ_KERNEL_IN_DATA_RANK
#define DATA_SIZE WAVEQ_KERNEL_IN_DATA_SIZE
#define data_t waveq_kernel_in_data_t
#include "mean.h"
