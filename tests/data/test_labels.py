"""Classes and captions from a dataset.json, metadata, .cls files or subfolders: complete, unambiguous, in range."""

from __future__ import annotations

import json

import pytest

from ganblocks.data.sources import open_data
from ganblocks.errors import DataError
from tests.data.files import SHADES, labelled_zip, open_captioned, png, reasons, shades, write_files, write_tar

NAMES = [f"{index:05d}.png" for index in range(5)]


def images_in(folder, count=3):
    return write_files(folder, {f"train/{index}.png": png(index * 20) for index in range(count)})


def test_a_dataset_json_has_captions_or_classes(tmp_path):
    labels = [[name, f"shade {index}"] for index, name in enumerate(NAMES)]
    labels[2][1] = ["grey", "mid"]
    images = open_captioned(labelled_zip(tmp_path / "text.zip", labels))
    assert list(images.captions)[1:3] == [("shade 1",), ("grey", "mid")]
    assert shades(images) == list(SHADES)
    classes = labelled_zip(tmp_path / "classes.zip", [[name, index % 3] for index, name in enumerate(NAMES)])
    images = open_data(classes, resolution=8, cond_dim=3)
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    assert images.class_names == ("0", "1", "2")
    with pytest.raises(
        DataError, match=r"dataset.json has no caption for 00000.png, but 0; the generator takes captions"
    ):
        open_captioned(classes)
    with pytest.raises(DataError, match=r"has no class for 00000.png, but 'shade 0'"):
        open_data(tmp_path / "text.zip", resolution=8, cond_dim=3)


def test_a_dataset_json_in_a_folder_is_read(caption_folder):
    labels = [[f"deep/{index}.png", f"text {index}"] for index in range(5)]
    (caption_folder / "dataset.json").write_text(json.dumps({"labels": labels}), encoding="utf-8-sig")
    assert open_captioned(caption_folder).captions[3] == ("text 3",)


@pytest.mark.parametrize("content", ["{}", "[]", '{"labels": 3}', '{"labels": ["ab"]}', '{"labels": [[1, 2, 3]]}'])
def test_a_dataset_json_of_another_form_is_refused(tmp_path, content):
    images_in(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"is no dataset.json, \{\"labels\": \[\[NAME, CLASS or CAPTION\]"):
        open_captioned(tmp_path)


@pytest.mark.parametrize(
    "content", [b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"labels": [["a", ' + b"1" * 5000 + b"]]}"]
)
def test_a_dataset_json_that_is_no_json_is_refused(tmp_path, content):
    write_files(images_in(tmp_path), {"dataset.json": content})
    with pytest.raises(DataError, match=r"dataset.json is not (JSON|UTF-8)"):
        open_captioned(tmp_path)


def test_a_dataset_json_without_labels_is_not_used(tmp_path):
    write_files(images_in(tmp_path), {"dataset.json": '{"labels": null}', "train/metadata.csv": "file_name,label\n"})
    with pytest.raises(DataError, match=r"3 of 3 images of .* have none, such as train/0.png"):
        open_captioned(tmp_path)


def test_an_image_listed_twice_with_two_classes_is_refused(tmp_path):
    write_files(images_in(tmp_path), {"dataset.json": json.dumps({"labels": [["train/0.png", 1], ["train/0.png", 0]]})})
    with pytest.raises(DataError, match=r"lists train/0.png twice, with the labels 1 and 0; remove one"):
        open_data(tmp_path, resolution=8, cond_dim=2)


def test_an_image_listed_twice_with_two_captions_has_both(tmp_path):
    labels = [["train/0.png", "a"], ["train/0.png", "b"], ["train/0.png", "a"], ["train/1.png", "c"]]
    write_files(images_in(tmp_path, 2), {"dataset.json": json.dumps({"labels": labels})})
    assert list(open_captioned(tmp_path).captions) == [("a", "b"), ("c",)]


def test_labels_of_images_that_are_not_there_are_reported(tmp_path):
    labels = [[f"train/{index}.png", index % 2] for index in range(5)]
    write_files(images_in(tmp_path), {"dataset.json": json.dumps({"labels": labels})})
    images = open_data(tmp_path, resolution=8, cond_dim=2)
    assert f"{tmp_path}/dataset.json lists 2 images not in the data, such as train/3.png" in images.notes


@pytest.mark.parametrize("number", [2, 100_000_000])
@pytest.mark.parametrize("kind", ["dataset.json", "metadata.csv", ".cls"])
def test_classes_that_the_generator_does_not_have_are_refused(tmp_path, kind, number):
    labels = [0, number, 1]
    if kind == ".cls":
        files = [(f"{i}.{s}", d) for i, c in enumerate(labels) for s, d in (("png", png(i)), ("cls", str(c)))]
        source = write_tar(tmp_path / "a.tar", files)
    else:
        source = images_in(tmp_path)
        rows = [[f"train/{index}.png", label] for index, label in enumerate(labels)]
        csv = "file_name,label\n" + "".join(f"{name},{label}\n" for name, label in rows)
        write_files(source, {kind: json.dumps({"labels": rows}) if kind == "dataset.json" else csv})
    with pytest.raises(
        DataError, match=rf"1 of 3 images have classes outside of .* 0 to 1 .*such as .*1\.png: class {number}"
    ):
        open_data(source, resolution=8, cond_dim=2)


def test_a_cls_file_without_a_number_skips_its_image(tmp_path):
    classes = ["0", "cat", "-1", "1\n", "1.5", "9" * 5000]
    files = [(f"{i}.{s}", d) for i, c in enumerate(classes) for s, d in (("png", png(i)), ("cls", c))]
    images = open_data(write_tar(tmp_path / "a.tar", files), resolution=8, cond_dim=2)
    assert images.labels.tolist() == [0, 1]
    assert reasons(images)["1.png"] == "its .cls file has no class number: 'cat'"
    assert images.summary[-1] == "4 of 6 files skipped: 4 x its .cls file has no class number"
    with pytest.raises(DataError, match=r"1 images have no .cls file with their class, such as .*9\.png"):
        open_data(write_tar(tmp_path / "b.tar", [*files, ("9.png", png(1))]), resolution=8, cond_dim=2)


def test_metadata_jsonl_beside_the_images_has_captions_or_class_names(tmp_path):
    images_in(tmp_path)
    rows = [{"file_name": f"{i}.png", "text": f"t{i}", "label": ["dog", "cat"][i % 2]} for i in range(3)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8-sig")
    assert list(open_captioned(tmp_path).captions) == [("t0",), ("t1",), ("t2",)]
    images = open_data(tmp_path, resolution=8, cond_dim=2)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [1, 0, 1]
    assert images.notes == (f"2 classes (cat, dog) from {tmp_path}/train/metadata.jsonl (column label)",)


def test_metadata_csv_above_the_images_has_captions_or_class_numbers(tmp_path):
    images_in(tmp_path)
    rows = [f'train/{i}.png,"a picture, {i}",{i % 2}\r\n' for i in range(3)]
    (tmp_path / "metadata.csv").write_bytes(("file_name,caption,label\r\n" + "".join(rows)).encode())
    assert open_captioned(tmp_path).captions[2] == ("a picture, 2",)
    assert open_data(tmp_path, resolution=8, cond_dim=2).labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", '{"file_name": "0.png", "text": "a"}\n{', r"metadata.jsonl: is not JSON"),
        ("metadata.jsonl", '"a"', r"metadata.jsonl: line 1 is not a JSON object"),
        ("metadata.jsonl", '{"image": "0.png", "text": "a"}', r"row 1 has no file_name; its columns are image, text"),
        ("metadata.csv", "name,text\n0.png,a\n", r"row 1 has no file_name; its columns are name, text"),
        ("metadata.csv", b"file_name,text\n0.png,caf\xe9\n", r"metadata.csv: is not UTF-8: byte 0xe9"),
        ("metadata.csv", "file_name,text\n0.png,\n", r"metadata.csv \(column text\) has no caption for train/0.png"),
    ],
)
def test_damaged_metadata_is_refused_with_its_place(tmp_path, name, content, message):
    write_files(images_in(tmp_path), {f"train/{name}": content})
    with pytest.raises(DataError, match=message):
        open_captioned(tmp_path)


def test_subfolders_are_classes(class_folder):
    images = open_data(class_folder, resolution=16, cond_dim=2)
    assert images.class_names == ("a", "b")
    assert images.labels.tolist() == [0] * 6 + [1] * 6
    assert images.notes == ("2 classes (a, b) from subfolders",)
    with pytest.raises(DataError, match=r"has 2 classes \(a, b\), the generator's cond_dim is 3"):
        open_data(class_folder, resolution=16, cond_dim=3)
    write_files(class_folder, {"loose.png": png(0)})
    with pytest.raises(DataError, match=r"1 do not, such as loose\.png"):
        open_data(class_folder, resolution=16, cond_dim=2)


def test_labels_that_are_not_used_are_reported(class_folder):
    images = open_data(class_folder, resolution=16)
    assert images.labels is None
    assert images.notes == ("the generator takes no classes or captions; not used: 2 subfolders (a, b)",)
    write_files(class_folder, {"dataset.json": '{"labels": null}', "a/00.txt": "black"})
    assert open_data(class_folder, resolution=16, cond_dim=2).notes == (
        "2 classes (a, b) from subfolders",
        "the generator takes classes from subfolders; not used: dataset.json, 1 .txt files",
    )


def test_splits_that_would_become_classes_or_are_pooled_are_reported(tmp_path):
    write_files(tmp_path / "images", {f"{split}/cat/{i}.png": png(i) for split in ("train", "test") for i in range(2)})
    (note,) = open_data(tmp_path / "images", resolution=8, cond_dim=2).notes
    assert note.startswith("2 classes (test, train) from subfolders; these are splits rather than classes: for one of")
    with pytest.raises(DataError, match=r"has 2 classes \(test, train\), .* for one of them pass .*images/train"):
        open_data(tmp_path / "images", resolution=8, cond_dim=10)
    assert "the splits test, train are used together" in open_data(tmp_path / "images", resolution=8).notes
    for split in ("train", "val"):
        write_tar(tmp_path / "shards" / f"{split}-000.tar", [("0.png", png(0))])
    assert open_data(tmp_path / "shards", resolution=8).notes == ("the splits train, val are used together",)


def test_metadata_files_of_several_folders_are_joined(tmp_path):
    for folder in "abcde":
        write_files(tmp_path, {f"{folder}/0.png": png(0), f"{folder}/metadata.csv": "file_name,label\n0.png,0\n"})
    images = open_data(tmp_path, resolution=8, cond_dim=1)
    assert images.labels.tolist() == [0] * 5
    assert not any("metadata" in note.partition("not used")[2] for note in images.notes)
    write_files(tmp_path, {"metadata.csv": "file_name,label\na/0.png,1\n"})
    with pytest.raises(DataError, match=r"lists a/0.png twice, with the labels '1' and '0'; remove one"):
        open_data(tmp_path, resolution=8, cond_dim=2)


def test_files_without_a_suffix_are_counted(tmp_path):
    write_files(images_in(tmp_path), {"0001": png(0), "0002": png(0)})
    assert open_data(tmp_path, resolution=8).notes == ("2 files without a suffix not read",)
