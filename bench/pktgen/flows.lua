-- Sends the packets of both files (pktgen -s 0:outbound.pcap -s 1:inbound.pcap), again and again,
-- and says what went and came. From the environment: ADIT_RATE, per cent of the link's speed, and
-- ADIT_SECONDS.
local rate = tonumber(os.getenv("ADIT_RATE") or "1")
local seconds = tonumber(os.getenv("ADIT_SECONDS") or "5")

pktgen.screen("off")
pktgen.set("all", "count", 0)
pktgen.set("all", "rate", rate)
pktgen.delay(500)
pktgen.clr()
pktgen.start("all")
pktgen.delay(seconds * 1000)
pktgen.stop("all")
pktgen.delay(1500)  -- what is on its way, and the statistics, which are a second old

local stats = pktgen.portStats("all", "port")
for port = 0, 1 do
  print(string.format("adit port %d sent %d received %d", port, stats[port].opackets,
                      stats[port].ipackets))
end
io.flush()
pktgen.quit()
