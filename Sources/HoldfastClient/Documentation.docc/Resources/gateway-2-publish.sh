.build/debug/holdfast publish calls.live '{"call":"call_1","state":"ringing"}'
