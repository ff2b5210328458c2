// Cuts a packed linear into the items of a parallel loop, when its number of rows is known.
#ifndef BANYAN_LINEAR_GRID_H
#define BANYAN_LINEAR_GRID_H

#include "packed.h"

namespace banyan {

// Constants of a linear on a machine, from registry.linear_schedule.
struct LinearLimits {
  int64_t max_row_block;
  int64_t max_panel_block;
  int64_t tile_bytes;  // float32 results of one item
};

struct LinearItem {
  int64_t row, rows;      // first row and how many
  int64_t panel, panels;  // first panel and how many
  int64_t ldc;            // recommended row stride of the item's results, in floats
};

struct LinearGrid {
  int64_t rows, panels;
  int64_t row_block, panel_block;
  int64_t row_blocks, panel_blocks;

  int64_t items() const { return row_blocks * panel_blocks; }
};

constexpr int64_t kPanelGroup = 4;  // panels that a kernel reads side by side

// Row stride of results: an odd number of cache lines, so that a column of them spreads over sets.
BANYAN_INLINE int64_t result_stride(int64_t panels) {
  return (panels | 1) * kPanelColumns;
}

BANYAN_INLINE LinearGrid linear_grid(int64_t rows, int64_t panels, int64_t threads,
                                     LinearLimits limits) {
  int64_t row_blocks = ceil_divide(rows, limits.max_row_block);
  const int64_t row_block = ceil_divide(rows, row_blocks);
  // The panels of one item, as many as fit the tile: fewer rows take more panels.
  const int64_t columns = limits.tile_bytes / (row_block * kPanelColumns * 4) - 1;
  const int64_t fitting = least(columns, limits.max_panel_block) / kPanelGroup * kPanelGroup;
  const int64_t widest = fitting < kPanelGroup ? kPanelGroup : fitting;
  int64_t panel_blocks = ceil_divide(panels, widest);
  if (row_blocks % threads != 0) panel_blocks = round_up(panel_blocks, threads);
  int64_t panel_block = round_up(ceil_divide(panels, panel_blocks), kPanelGroup);
  panel_blocks = ceil_divide(panels, panel_block);
  // Too few columns for all threads: cut the rows instead.
  if (panel_blocks * row_blocks < threads) {
    const int64_t wanted = ceil_divide(threads, panel_blocks);
    row_blocks = wanted < rows ? wanted : rows;
  }
  const int64_t rows_each = ceil_divide(rows, row_blocks);
  return {rows, panels, rows_each, panel_block, ceil_divide(rows, rows_each), panel_blocks};
}

BANYAN_INLINE LinearItem linear_item(const LinearGrid& grid, int64_t item) {
  const int64_t row = item % grid.row_blocks * grid.row_block;
  const int64_t panel = item / grid.row_blocks * grid.panel_block;
  return {row, least(grid.row_block, grid.rows - row), panel,
          least(grid.panel_block, grid.panels - panel), result_stride(grid.panel_block)};
}

}  // namespace banyan

#endif
