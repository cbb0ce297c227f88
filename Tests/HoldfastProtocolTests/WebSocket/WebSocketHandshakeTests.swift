import Foundation
import TestSupport
import Testing

@testable import HoldfastProtocol

@Suite struct WebSocketHandshakeTests {
    /// RFC 6455 §1.3 and §4.2.2; the others were made with Python's hashlib. Their hashes end in blocks of other lengths.
    @Test(arguments: [
        ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ("AAAAAAAAAAAAAAAAAAAAAA==", "ICX+Yqv66kxgM0FcWaLWlFLwTAI="),
        ("", "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w="),
        ("x", "JVxkmtKFjDcI/Pm/AGPEKSN6wT8="),
        ("aaaaaaaaaaaaaaaaaaa", "yzaGyu0mcUukN7CdsSwa30tnCpc="),
        ("aaaaaaaaaaaaaaaaaaaa", "dUYRM7bOMwDmbriNIPr11x+r3E0="),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaa", "NCEiOv6lMC9mC8oEZnneqRdJ4DU="),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "xMWmCBqYJY4uXzUs8PNU1t+Pzro="),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "m8kT+K/C9sp8j44+NnEexy4o+Tg="),
        (
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "+taVhj8zzaJPYE6HHo1ugamK/Ug="
        ),
    ])
    func accept(_ key: String, _ expected: String) {
        #expect(WebSocketHandshake.accept(key: key) == expected)
    }

    @Test(arguments: [
        ("dGhlIHNhbXBsZSBub25jZQ==", true), ("AAAAAAAAAAAAAAAAAAAAAA==", true), ("+/+/+/+/+/+/+/+/+/+/+w==", true),
        ("", false),
        ("dGhlIHNhbXBsZSBub25jZQ=", false), ("dGhlIHNhbXBsZSBub25jZQ", false), ("dGhlIHNhbXBsZSBub25jZQ===", false),
        ("dGhlIHNhbXBsZSBub25jZ===", false), ("dGhlIHNhbXBsZSBub25jZQAA", false), ("dGhlIHNhbXBsZSBub25j-Q==", false),
        ("dGhlIHNhbXBsZSBub25jé==", false), (" GhlIHNhbXBsZSBub25jZQ==", false),
    ])
    func keys(_ key: String, _ isValid: Bool) {
        #expect(WebSocketHandshake.isValid(key: key) == isValid)
    }

    @Test func keysOfOurOwn() {
        var generator = SeededGenerator(seed: 1)
        var seen: Set<String> = []
        for _ in 0..<100 {
            let (high, low) = (generator.next(), generator.next())
            let key = WebSocketHandshake.key(high: high, low: low)
            #expect(WebSocketHandshake.isValid(key: key))
            #expect(Data(base64Encoded: key)?.count == 16)
            seen.insert(key)
        }
        #expect(seen.count == 100)
    }
}
