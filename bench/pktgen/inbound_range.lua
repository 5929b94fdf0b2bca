-- Beside flows.lua, for port 1: every port of an external address in turn, as scanners do it. Those
-- that have a mapping reach a client; of the others the gateway counts no_mapping. From the
-- environment: ADIT_POOL (an external address), ADIT_GATEWAY_MAC (of its public port), ADIT_RATE.
local pool = os.getenv("ADIT_POOL") or "51.0.0.1"
local mac = os.getenv("ADIT_GATEWAY_MAC")
local rate = tonumber(os.getenv("ADIT_RATE") or "1")

local function range(name, first, step, last)
  local set = pktgen.range[name]
  set("1", "start", first)
  set("1", "inc", step)
  set("1", "min", first)
  set("1", "max", last)
end

if mac then pktgen.range.dst_mac("1", "start", mac) end
range("dst_ip", pool, "0.0.0.0", pool)
range("src_ip", "40.1.0.1", "0.0.0.1", "40.1.0.250")
range("src_port", 6600, 0, 6600)
range("dst_port", 1024, 1, 65535)
range("pkt_size", 78, 0, 78)
pktgen.range.ip_proto("1", "udp")
pktgen.set_range("1", "on")
pktgen.set("1", "rate", rate)
pktgen.start("1")
