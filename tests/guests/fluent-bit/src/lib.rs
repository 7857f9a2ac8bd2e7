//! Nothing: the filter is an example, as those of other systems' guests are.
