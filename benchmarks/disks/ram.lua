-- SPDX-License-Identifier: BSD-3-Clause
-- The RAM disk in Lua, whose strings cannot be changed: a table of sectors. Parameter: size=BYTES.
local sectors, size, sector = {}, 0, 512
local empty = string.rep("\0", sector)

function config(key, value)
  if key == "size" then size = math.tointeger(value) end
end

function open(readonly) return 1 end
function get_size(h) return size end
function can_write(h) return true end

function pread(h, count, offset)
  local found, first = {}, offset // sector
  for i = first, (offset + count - 1) // sector do found[#found + 1] = sectors[i] or empty end
  return table.concat(found):sub(offset - first * sector + 1, offset - first * sector + count)
end

function pwrite(h, buf, offset)
  for i = 0, #buf // sector - 1 do sectors[offset // sector + i] = buf:sub(i * sector + 1, (i + 1) * sector) end
end

function can_flush(h) return true end
function flush(h) end
