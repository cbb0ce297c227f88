swift run dashboard          # look at it for a while, then Ctrl-C
cat dashboard.json
# {"calls":{"call_8":"talking","call_14":"ringing"},"offset":105,"epoch":"aspfolkg"}

swift run dashboard          # it goes on after message 105
