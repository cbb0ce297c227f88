import NIOCore
import Testing

@testable import HoldfastFaults

@Suite("Shaper: a slow line in virtual time")
struct ShaperTests {
    private static let begin = NIODeadline.uptimeNanoseconds(1_000_000_000)

    /// Runs to the end and says what came when, in ms.
    private func run(_ shaper: inout Shaper, seed: UInt64 = 1, until limit: Int64 = .max) -> [(
        ms: Int64, parcel: Parcel
    )] {
        var chance = SeededGenerator(seed: seed)
        var arrived: [(Int64, Parcel)] = []
        var now = Self.begin
        while true {
            while let parcel = shaper.next(now: now, using: &chance) {
                arrived.append(((now - Self.begin).nanoseconds / 1_000_000, parcel))
            }
            guard let deadline = shaper.deadline else { return arrived }
            #expect(deadline > now, "it asks for a time that has been")
            now = deadline
            if (now - Self.begin).nanoseconds / 1_000_000 > limit { return arrived }
        }
    }

    private func bytes(_ count: Int) -> Parcel { .bytes(ByteBuffer(repeating: 7, count: count)) }

    @Test func everythingTakesTheLatencyEndsToo() {
        var shaper = Shaper(settings: .init(latency: .milliseconds(300)), limit: 1_000)
        shaper.add(self.bytes(10), now: Self.begin)
        shaper.add(.end(.finish), now: Self.begin)
        let arrived = self.run(&shaper)
        #expect(arrived.map(\.ms) == [300, 300])
        #expect(arrived.map(\.parcel) == [self.bytes(10), .end(.finish)])
        #expect(shaper.isEmpty && shaper.heldBytes == 0)
    }

    @Test func jitterStaysInItsBoundsAndKeepsTheOrder() {
        var times: Set<Int64> = []
        for seed in 0..<200 as Range<UInt64> {
            var shaper = Shaper(settings: .init(latency: .milliseconds(300), jitter: .milliseconds(100)), limit: 1_000)
            for size in 1...5 { shaper.add(self.bytes(size), now: Self.begin) }
            let arrived = self.run(&shaper, seed: seed)
            #expect(arrived.map(\.parcel.size) == [1, 2, 3, 4, 5])
            #expect(arrived.allSatisfy { (200...400).contains($0.ms) })
            times.insert(arrived[0].ms)
        }
        #expect(times.min()! < 230 && times.max()! > 370, "the whole range is used: \(times.sorted())")
    }

    @Test func theSameSeedGivesTheSameTimes() {
        func times(_ seed: UInt64) -> [Int64] {
            var shaper = Shaper(settings: .init(latency: .milliseconds(300), jitter: .milliseconds(300)), limit: 1_000)
            for _ in 0..<20 { shaper.add(self.bytes(1), now: Self.begin) }
            return self.run(&shaper, seed: seed).map(\.ms)
        }
        #expect(times(5) == times(5))
        #expect(times(5) != times(6))
    }

    @Test func aBandwidthTakesItsTime() {
        var shaper = Shaper(settings: .init(bandwidth: 10_000), limit: 1 << 20)
        shaper.add(self.bytes(20_000), now: Self.begin)
        let arrived = self.run(&shaper)
        #expect(arrived.allSatisfy { $0.parcel.size <= 200 })
        #expect(arrived.reduce(0) { $0 + $1.parcel.size } == 20_000)
        #expect((1_950...2_000).contains(arrived.last!.ms))
        let half = arrived.filter { $0.ms < 1_000 }.reduce(0) { $0 + $1.parcel.size }
        #expect((9_800...10_200).contains(half))
    }

    @Test func dripsComeOneByOne() {
        var shaper = Shaper(settings: .init(dripBytes: 3, dripInterval: .milliseconds(50)), limit: 1_000)
        shaper.add(self.bytes(8), now: Self.begin)
        shaper.add(.end(.finish), now: Self.begin)
        let arrived = self.run(&shaper)
        #expect(arrived.map(\.ms) == [0, 50, 100, 150])
        #expect(arrived.map(\.parcel.size) == [3, 3, 2, 0])
    }

    @Test func aFINComesLaterAndARSTOvertakesIt() {
        var shaper = Shaper(settings: .init(latency: .milliseconds(10), finDelay: .seconds(5)), limit: 1_000)
        shaper.add(self.bytes(1), now: Self.begin)
        shaper.add(.end(.finish), now: Self.begin)
        var chance = SeededGenerator(seed: 1)
        #expect(shaper.next(now: Self.begin + .seconds(1), using: &chance) == self.bytes(1))
        #expect(shaper.next(now: Self.begin + .seconds(1), using: &chance) == nil)
        shaper.add(.end(.reset), now: Self.begin + .seconds(1))
        #expect(shaper.next(now: Self.begin + .milliseconds(1_009), using: &chance) == nil, "it has just been sent")
        #expect(shaper.next(now: Self.begin + .milliseconds(1_010), using: &chance) == .end(.reset))
        #expect(shaper.isEmpty)
    }

    @Test func theRoomIsBounded() {
        var shaper = Shaper(settings: .init(latency: .seconds(60)), limit: 1_000)
        shaper.add(self.bytes(999), now: Self.begin)
        #expect(shaper.hasRoom)
        shaper.add(self.bytes(1), now: Self.begin)
        #expect(!shaper.hasRoom && shaper.heldBytes == 1_000)
        // A second's worth, at least 4 KiB: more would only leave the sender in the belief that it has arrived.
        shaper = Shaper(settings: .init(bandwidth: 10_000), limit: 1 << 20)
        shaper.add(self.bytes(9_999), now: Self.begin)
        #expect(shaper.hasRoom)
        shaper.add(self.bytes(1), now: Self.begin)
        #expect(!shaper.hasRoom)
    }

    @Test func withoutFaultsWhatWaitsIsThereAtOnce() {
        var shaper = Shaper(settings: .init(latency: .seconds(60), bandwidth: 1), limit: 1_000)
        for size in 1...3 { shaper.add(self.bytes(size), now: Self.begin) }
        shaper.settingsChanged(to: .none, now: Self.begin)
        #expect(self.run(&shaper).map(\.ms) == [0, 0, 0])
    }
}

@Suite("Corruption")
struct CorruptionTests {
    @Test(arguments: [1, 3, 4, 6]) func oneBitOfOneByteIsTurned(byte: Int) {
        for size in 1...6 {
            var corruption = Corruption()
            var stream = ByteBuffer(string: "abcdef")
            var passed: [UInt8] = []
            var hits = 0
            while var part = stream.readSlice(length: min(size, stream.readableBytes)), part.readableBytes > 0 {
                hits += corruption.pass(&part, corrupting: byte) ? 1 : 0
                passed += part.readableBytesView
            }
            var expected = Array("abcdef".utf8)
            expected[byte - 1] ^= 1
            #expect(passed == expected && hits == 1)
        }
    }

    @Test func theHandshakeDoesNotCount() {
        var corruption = Corruption()
        var handshake = ByteBuffer(string: "handshake")
        #expect(!corruption.pass(&handshake, corrupting: nil))
        corruption.upgraded()
        var frame = ByteBuffer(string: "aa")
        #expect(corruption.pass(&frame, corrupting: 2, afterHandshake: true))
        #expect(String(buffer: frame) == "a`")
    }
}
