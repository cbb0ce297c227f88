/// When another library tries again, as peers.md states it: a plain function, without that library's code.
public struct PeerBackoff: Sendable {
    public let name: String
    public let formula: String
    /// Where peers.md states it.
    public let source: String
    /// In ms, of one attempt; `nil`: the library has none, and TCP repeats the connect until it gives up.
    let connectTimeout: Int?
    /// The delay before an attempt, in seconds, after `failures` attempts that failed since the line was lost; `nil`: it
    /// gives up. `base` is a random number in 0..<1 that a client draws once; `random` draws another one.
    let delay: @Sendable (_ failures: Int, _ base: Double, _ random: () -> Double) -> Double?

    /// All whose formula is stated.
    public static let all: [PeerBackoff] = [
        PeerBackoff(
            name: "centrifuge-js", formula: "0.5 s + U(0, min(20 s, 0.5·2ⁿ))", source: "§1a", connectTimeout: 5000
        ) { failures, _, random in
            0.5 + random() * min(20, 0.5 * power(2, failures))
        },
        PeerBackoff(name: "Socket.IO", formula: "min(5 s, 2ⁿ ± 50 %)", source: "§1a", connectTimeout: 20_000) {
            failures, _, random in
            min(5, power(2, failures) * (0.5 + random()))
        },
        PeerBackoff(name: "SignalR", formula: "0, 2, 10, 30 s, then stops", source: "§1a", connectTimeout: nil) {
            failures, _, _ in
            failures < 4 ? [0, 2, 10, 30][failures] : nil
        },
        PeerBackoff(
            name: "Phoenix", formula: "10, 50, 100, 150, 200, 250, 500, 1000, 2000 ms, then 5 s", source: "§1a",
            connectTimeout: nil
        ) { failures, _, _ in
            failures < 9 ? [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2][failures] : 5
        },
        PeerBackoff(
            name: "Ably", formula: "0, then 15 s·min((n+2)/3, 2)·U(0.8, 1)", source: "§1a", connectTimeout: 10_000
        ) { failures, _, random in
            failures == 0 ? 0 : 15 * min(Double(failures + 2) / 3, 2) * (0.8 + 0.2 * random())
        },
        PeerBackoff(
            name: "AnyCable", formula: "U(3·2ⁿ, 3·2ⁿ⁺¹) s ± 50 %, no cap", source: "§1a", connectTimeout: nil
        ) { failures, _, random in
            3 * power(2, failures) * (1 + random()) * (0.5 + random())
        },
        PeerBackoff(name: "nchan.js", formula: "1 s", source: "§1a", connectTimeout: nil) { _, _, _ in 1 },
        PeerBackoff(name: "Wt", formula: "min(120 s, 0.5·eⁿ)", source: "§1a", connectTimeout: nil) { failures, _, _ in
            min(120, 0.5 * power(2.718281828459045, failures))
        },
        PeerBackoff(
            name: "reconnecting-websocket", formula: "min(10 s, b·1.3ⁿ), b = U(1, 5) s once a page", source: "§1a",
            connectTimeout: 4000
        ) { failures, base, _ in
            min(10, (1 + 4 * base) * power(1.3, failures))
        },
        PeerBackoff(
            name: "SocketCluster", formula: "min(60 s, U(10, 20)·1.5ⁿ)", source: "§5", connectTimeout: 20_000
        ) { failures, _, random in
            min(60, (10 + 10 * random()) * power(1.5, failures))
        },
        PeerBackoff(name: "pusher-js", formula: "0, then 1 s", source: "§5", connectTimeout: 10_000) { failures, _, _ in
            failures == 0 ? 0 : 1
        },
        PeerBackoff(
            name: "nats.js", formula: "2 s + U(0, 0.1 s), 10 attempts", source: "§5", connectTimeout: 20_000
        ) { failures, _, random in
            failures < 10 ? 2 + 0.1 * random() : nil
        },
    ]
}

/// `base` to the power of `exponent`, which is bounded: beyond it every formula has reached its cap, or the run its end.
private func power(_ base: Double, _ exponent: Int) -> Double {
    (0..<min(exponent, 40)).reduce(1.0) { product, _ in product * base }
}
