#!/bin/sh
# Free recordings of voices and noises that Debian 12 packages carry, which the shipped priors learned from beside others:
#     experiments/data/debian_sounds.sh sounds
# leaves sounds/announcers, sounds/actors, sounds/readers and sounds/hissing for `avdiff prepare speech`, sounds/noises for
# `avdiff prepare noise`. Needs apt-get and dpkg-deb, installs nothing. Licences: each package's copyright file stays in
# sounds/copyright.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
work=packages
mkdir -p $work

package() { # names; each is unpacked into packages/NAME
    for name in "$@"; do
        (cd $work && apt-get download "$name")
        mkdir -p $work/"$name" copyright
        dpkg-deb -x $work/"${name}"_*.deb $work/"$name"
        cp $work/"$name"/usr/share/doc/"$name"/copyright copyright/"$name"
        rm $work/"${name}"_*.deb
    done
}

package asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722 asterisk-core-sounds-fr-g722 asterisk-core-sounds-ru-g722
mkdir -p announcers
for sounds in $work/asterisk-core-sounds-*/usr/share/asterisk/sounds; do cp -r "$sounds"/. announcers/; done

package fillets-ng-data-cs fillets-ng-data-nl
mkdir -p actors
for language in cs nl; do
    cp -r $work/fillets-ng-data-$language/usr/share/games/fillets-ng/sound actors/$language
done
find actors -name '[0-9a-o]*.ogg' -delete # a third of the roles' lines is enough

package klettres-data ktuberling-data tuxpaint-stamps-default hedgewars-data
keep() { # FOLDER; files from standard input, with their folders in their names, for none to hide another
    mkdir -p "$1"
    while read -r file; do cp "$file" "$1"/"$(echo "${file#"$work"/*/usr/share/}" | tr / -)"; done
}
readers() { # FOLDER, then PACKAGE-VOICE: a word or a sentence a file
    folder=$1
    shift
    for reader in "$@"; do
        voice=${reader#*-}
        case $reader in
        klettres-*) find $work/klettres-data/usr/share/klettres/"$voice" -name '*.ogg' ;;
        ktuberling-*) find $work/ktuberling-data/usr/share/ktuberling/sounds/"$voice" -type f ;;
        tuxpaint-*) find $work/tuxpaint-stamps-default -name "*_desc_$voice.ogg" | LC_ALL=C sort | awk 'NR % 2' ;; # every second is enough
        hedgewars-*) find $work/hedgewars-data/usr/share/games/hedgewars/Data/Sounds/voices/"$voice" -name '*.ogg' ;;
        esac | keep "$folder/$reader"
    done
}
# those whose quietest tenth of frames is 30 dB or more below the loudest, and the others
readers readers klettres-da klettres-de klettres-en klettres-en_GB klettres-es klettres-fr klettres-nb klettres-nds klettres-nl klettres-pt_BR \
    klettres-ru klettres-tn klettres-uk ktuberling-ca ktuberling-el ktuberling-ga ktuberling-nn ktuberling-ro ktuberling-uk ktuberling-wa \
    tuxpaint-el tuxpaint-es hedgewars-British hedgewars-Classic hedgewars-Default hedgewars-Default_es hedgewars-Mobster hedgewars-Pirate \
    hedgewars-Russian hedgewars-Surfer
readers hissing klettres-ar klettres-cs klettres-he klettres-hu ktuberling-da ktuberling-de ktuberling-en ktuberling-fr ktuberling-gl \
    ktuberling-ru ktuberling-sl ktuberling-sr tuxpaint-be tuxpaint-bg tuxpaint-ca tuxpaint-da tuxpaint-fr tuxpaint-ro tuxpaint-ru \
    hedgewars-Default_pl hedgewars-Default_ru hedgewars-Default_uk hedgewars-HillBilly hedgewars-Russian_pl

package 0ad-data lincity-ng-data widelands-data torcs-data scorched3d-data minetest-data bucklespring-data asterisk-moh-opsound-g722
mkdir -p noises/0ad/actor noises/torcs noises/scorched3d
for archive in $work/0ad-data/usr/share/games/0ad/mods/*/*.zip; do
    python3 -c 'import sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
archive.extractall(sys.argv[2], [name for name in archive.namelist() if name.startswith("audio/")])' "$archive" $work/0ad
done
for part in actor/fauna actor/gate actor/mounted actor/ship actor/singlesteps ambient attack resource; do
    cp -r $work/0ad/audio/$part noises/0ad/$part
done
cp -r $work/lincity-ng-data/usr/share/games/lincity-ng/sounds noises/lincity
find noises/lincity \( -name '*School*' -o -name '*Market*' -o -name '*Commune*' \) -delete # people talk in these
cp -r $work/widelands-data/usr/share/games/widelands/data/sound noises/widelands
cp $work/torcs-data/usr/share/games/torcs/data/sound/*.wav noises/torcs
for mod in apoc none; do
    cp -r $work/scorched3d-data/usr/share/games/scorched3d/data/globalmods/$mod/data/wav noises/scorched3d/$mod
done
find noises/scorched3d -name '*scream*' -delete
cp -r $work/minetest-data/usr/share/games/minetest/games/minetest_game/mods noises/minetest
cp -r $work/bucklespring-data/usr/share/buckle/wav noises/bucklespring
cp -r $work/asterisk-moh-opsound-g722/usr/share/asterisk/moh noises/music
rm -r $work
