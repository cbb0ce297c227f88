import HoldfastFaults
import NIOConcurrencyHelpers
import Testing

@Suite("Fault scripts", .timeLimit(.minutes(1)))
struct FaultScriptTests {
    /// The first moments of a script, as "ms line commands".
    private func moments(_ text: String, _ count: Int = 100) throws -> [String] {
        var clock = FaultScriptClock(try FaultScript(text))
        var moments: [String] = []
        while moments.count < count, let moment = clock.nextMoment() {
            let ms = Int64((moment.at / .milliseconds(1)).rounded())
            moments.append("\(ms) \(moment.line) \(moment.commands.map(\.description).joined(separator: "; "))")
        }
        return moments
    }

    private func refusal(_ text: String) -> String {
        #expect(throws: FaultsError.self) { try FaultScript(text) }?.description ?? ""
    }

    @Test func linesAreDoneInTheOrderOfTime() throws {
        let script = """
            # comment
            at 65s: restore   # and another

            at 5s:cut both
            \tat 1.5m : cut to-client delayed existing, reset newest
            at 500ms: latency-ms 300, jitter-ms 100, half-close to-server, close-all, refuse
            at 1h: clear, duplicate-requests false
            """
        #expect(
            try self.moments(script) == [
                "500 6 latency-ms 300, jitter-ms 100; half-close to-server all; close-all; refuse true",
                "5000 4 cut both lost everything",
                "65000 2 restore",
                "90000 5 cut to-client delayed existing; reset newest",
                "3600000 7 clear; duplicate-requests false",
            ])
    }

    @Test func everyAndRepeat() throws {
        #expect(
            try self.moments("every 10s: close-all\nat 20s: cut", 4) == [
                "10000 1 close-all", "20000 1 close-all", "20000 2 cut both lost everything", "30000 1 close-all",
            ])
        #expect(
            try self.moments("every 10s from 5s until 25s: restore") == [
                "5000 1 restore", "15000 1 restore", "25000 1 restore",
            ])
        #expect(
            try self.moments("at 1s: cut\nevery 2s from 0s: restore\nrepeat after 3s", 7) == [
                "0 2 restore", "1000 1 cut both lost everything", "2000 2 restore",
                "3000 2 restore", "4000 1 cut both lost everything", "5000 2 restore", "6000 2 restore",
            ])
    }

    @Test(arguments: [
        ("", "the script does nothing"),
        ("# only words", "the script does nothing"),
        (
            "in 5s: cut",
            #"line 1: a line begins with at, every or repeat, such as "at 5s: cut"; this one with "in""#
        ),
        ("\n\nat 5s cut", "line 3: what to do stands behind a colon"),
        ("at : cut", "line 1: at must be followed by a time"),
        ("at 5: cut", #"line 1: a time is a number with ms, s, m or h, such as 1.5s; it is "5""#),
        ("at 5 s: cut", #"it is "5""#),
        ("at -5s: cut", "a time is a number"),
        ("at 721h: cut", #"a time is at most 720h; it is "721h""#),
        ("at 5s until 6s: cut", "behind the time of at may stand nothing more"),
        ("every 5s for 6s: cut", "behind the time of every may stand from TIME and until TIME"),
        ("every 9ms: cut", "every must be at least 0.01 seconds; it is 9ms"),
        ("every 5s until 4s: cut", "lies before the first"),
        ("at 5s: cut\nrepeat 6s", #"line 2: write "repeat after 120s""#),
        ("at 5s: cut\nrepeat after 5s", "line 1: that is never reached, since line 2 begins anew before it"),
        ("at 5s: cut\nrepeat after 6s\nrepeat after 7s", "line 3: repeat stands in line 2 already"),
        ("at 5s:", "line 1: there is nothing to do"),
        ("at 5s: cut,", "line 1: there is nothing to do"),
        ("at 5s: kut", #"line 1: there is no "kut": did you mean "cut"?"#),
        ("at 5s: latency 300", #"line 1: there is no "latency": did you mean "latency-ms"?"#),
        ("at 5s: latency-ms", "line 1: latency-ms must be followed by a whole number of ms from 0 to 60000"),
        ("at 5s: latency-ms 300ms", #"it is "300ms""#),
        ("at 5s: latency-ms 300 400", #"latency-ms does not know what "400" means"#),
        ("at 5s: cut sideways", #"cut does not know what "sideways" means"#),
        ("at 5s: half-close", "half-close must be followed by both, to-server or to-client"),
    ])
    func mistakesNameTheLine(text: String, error: String) {
        #expect(self.refusal(text).contains(error), "\(self.refusal(text))")
    }

    @Test func aScriptIsBounded() {
        let long = String(repeating: "#", count: FaultScript.sizeLimit + 1)
        #expect(self.refusal(long) == "a script has at most 1048576 bytes; this one has 1048577")
    }

    @Test func aScriptIsPlayed() async throws {
        try await withConnection { it in
            let said = NIOLockedValueBox<[String]>([])
            let script = try FaultScript(
                "at 0s: cut\nat 10ms: restore, latency-ms 5\nat 20ms: jitter-ms 6\nat 30ms: reset newest")
            await it.proxy.play(script) { line in said.withLockedValue { $0.append(line) } }
            #expect(await it.proxy.faults.latencyMs == 5)
            #expect(await it.proxy.faults.cut == [])
            try await eventually("reset") { it.client.heard.end == .reset }
            let lines = said.withLockedValue { $0 }
            #expect(
                lines.contains("script, line 3: not done: jitter-ms must be at most latency-ms, which is 5; it is 6"))
            #expect(lines.last == "the script is over; what stands stays")
        }
    }

    @Test func aScriptWithoutEndEndsWithItsTask() async throws {
        try await withConnection { it in
            let playing = Task { [proxy = it.proxy] in
                await proxy.play(try FaultScript("every 10ms: latency-ms 7")) { _ in }
            }
            try await eventually("it plays") { await it.proxy.faults.latencyMs == 7 }
            playing.cancel()
            try await playing.value
        }
    }
}
