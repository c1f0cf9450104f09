"""The filter: policy, its tables in the kernel, what the data path reports."""
